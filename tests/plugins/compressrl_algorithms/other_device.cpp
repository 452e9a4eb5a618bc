// A device of torch that stands in for a GPU. The CPU cannot read its memory: addresses are shifted to where nothing is.
// It computes by the CPU's operators, and refuses what a GPU refuses: tensors of two devices at once, and the CPU's
// random numbers. See test_other_device.py.
#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <ATen/EmptyTensor.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/CPUFallback.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/set_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <torch/library.h>

#include <cstdlib>
#include <cstring>
#include <set>

namespace {
constexpr auto KIND = at::DeviceType::PrivateUse1;
const at::Device DEVICE(KIND, 0);
constexpr uintptr_t SHIFT = uintptr_t(1) << 62; // beyond every address of a process

struct Allocator final : c10::Allocator {
    c10::DataPtr allocate(size_t bytes) override
    {
        void *const memory = std::malloc(bytes ? bytes : 1);
        return {(char *)memory + SHIFT, memory, &std::free, DEVICE};
    }
    c10::DeleterFnPtr raw_deleter() const override { return nullptr; }
    void copy_data(void *to, const void *from, size_t bytes) const override
    {
        std::memcpy((char *)to - SHIFT, (const char *)from - SHIFT, bytes);
    }
};
Allocator allocator;
REGISTER_ALLOCATOR(KIND, &allocator)

// Autograd asks for these before it computes in threads of its own.
struct Guard final : c10::impl::NoOpDeviceGuardImpl<KIND> {
    Guard() = default;
    explicit Guard(c10::DeviceType) {}
    c10::Device exchangeDevice(c10::Device) const override { return DEVICE; }
    c10::Device getDevice() const override { return DEVICE; }
    c10::Stream getStream(c10::Device) const noexcept override { return c10::Stream(c10::Stream::DEFAULT, DEVICE); }
    void record(void **, const c10::Stream &, c10::DeviceIndex, c10::EventFlag) const override {}
    void block(void *, const c10::Stream &) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

std::set<const c10::GeneratorImpl *> generators; // of this device

struct Hooks final : at::PrivateUse1HooksInterface {
    bool isBuilt() const override { return true; }
    bool isAvailable() const override { return true; }
    bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
    at::Generator getNewGenerator(c10::DeviceIndex) const override
    {
        const auto generator = at::detail::createCPUGenerator();
        generators.insert(generator.unsafeGetGeneratorImpl());
        return generator;
    }
};
Hooks hooks;
const bool hooks_are_registered = (at::RegisterPrivateUse1HooksInterface(&hooks), true);

using Type = std::optional<c10::ScalarType>;
using Layout = std::optional<c10::Layout>;
using Device = std::optional<c10::Device>;
using Format = std::optional<c10::MemoryFormat>;
constexpr c10::DispatchKeySet KEYS(c10::DispatchKey::PrivateUse1);

at::Tensor empty(c10::IntArrayRef size, Type type, Layout, Device, std::optional<bool>, Format format)
{
    return at::detail::empty_generic(size, &allocator, KEYS, c10::dtype_or_default(type), format);
}

at::Tensor empty_strided(c10::IntArrayRef size, c10::IntArrayRef stride, Type type, Layout, Device, std::optional<bool>)
{
    return at::detail::empty_strided_generic(size, stride, &allocator, KEYS, c10::dtype_or_default(type));
}

// The same numbers for the CPU.
at::Tensor seen(const at::Tensor &x)
{
    const auto options = x.options().device(at::kCPU);
    return x.is_cpu() ? x : at::from_blob((char *)x.data_ptr() - SHIFT, x.sizes(), x.strides(), options);
}

at::Tensor copy_from(const at::Tensor &self, const at::Tensor &to, bool)
{
    seen(to).copy_(seen(self));
    return to;
}

at::Tensor copy_from_and_resize(const at::Tensor &self, const at::Tensor &to)
{
    at::native::resize_(to, self.sizes(), std::nullopt);
    return copy_from(self, to, false);
}

at::Scalar local_scalar(const at::Tensor &self) { return seen(self).item(); }

at::Tensor &set_storage(at::Tensor &self, at::Storage source) { return at::native::set_(self, source); }

// Moving a module gives its parameters other data, and leaves them where an optimiser knows them.
bool can_be_data_of(const at::Tensor &, const at::Tensor &) { return true; }

// A single number may be the CPU's, and so may the places that are looked up.
void check_device(const c10::OperatorHandle &op, const at::Tensor &x)
{
    const bool is_misplaced = x.defined() && x.is_cpu() && x.dim() && op.schema().name() != "aten::index";
    TORCH_CHECK(!is_misplaced, op.schema().name(), ": one of the tensors is on the CPU");
}

void check_generator(const c10::OperatorHandle &op, const at::Generator &generator)
{
    const bool is_known = generators.count(generator.unsafeGetGeneratorImpl());
    TORCH_CHECK(is_known, op.schema().name(), ": the generator is the CPU's");
}

void compute(const c10::OperatorHandle &op, torch::jit::Stack *stack)
{
    for (const auto &argument : torch::jit::last(*stack, op.schema().arguments().size())) {
        if (argument.isTensor())
            check_device(op, argument.toTensor());
        if (argument.isTensorList())
            for (const auto &x : argument.toTensorVector())
                check_device(op, x);
        if (argument.isGenerator())
            check_generator(op, argument.toGenerator());
    }
    at::native::cpu_fallback(op, stack);
}

TORCH_LIBRARY_IMPL(aten, PrivateUse1, m)
{
    m.impl("empty.memory_format", empty);
    m.impl("empty_strided", empty_strided);
    m.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
    m.impl("resize_", TORCH_FN(at::native::resize_));
    m.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
    m.impl("view", TORCH_FN(at::native::view));
    m.impl("set_.source_Tensor", TORCH_FN(at::native::set_tensor_));
    m.impl("set_.source_Storage", set_storage);
    m.impl("set_.source_Storage_storage_offset", TORCH_FN(at::native::set_storage_cpu_));
    m.impl("_copy_from", copy_from);
    m.impl("_copy_from_and_resize", copy_from_and_resize);
    m.impl("_local_scalar_dense", local_scalar);
    m.impl("_has_compatible_shallow_copy_type", can_be_data_of);
}

TORCH_LIBRARY_IMPL(_, PrivateUse1, m) { m.fallback(torch::CppFunction::makeFromBoxedFunction<&compute>()); }
} // namespace
