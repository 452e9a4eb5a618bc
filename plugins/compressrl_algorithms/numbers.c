/* The vectors that everything here is computed with, and which numbers networks are multiplied in: float, or with
 * -DSTACK_BFLOAT16 or -DSTACK_INT16 those of bfloat16.c or int16.c. */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* Intel's processors with AMX multiply bfloat16 outside of it at half the rate of float. */
#if defined(STACK_BFLOAT16) && defined(__AVX512BF16__) && defined(__AMX_BF16__) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#define STACK_AMX
#define STACK_SUPPORTED
#define REQUEST_PERMISSION 0x1023 /* ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA: Documentation/arch/x86/xstate.rst */
#define TILE_DATA 18
int stack_supported(void) { return syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0; }
#elif defined(STACK_BFLOAT16) && (!defined(__AVX512BF16__) || defined(__AMX_TILE__))
int stack_supported(void) { return 0; }
#elif defined(STACK_INT16) && (!defined(__AVX2__) || (defined(__AVX512F__) && !defined(__AVX512BW__)))
int stack_supported(void) { return 0; }
#else
#define STACK_SUPPORTED
int stack_supported(void) { return 1; }
#endif

/* Whether it is faster than in float. Integers are where an instruction multiplies and adds them (VNNI), and where
 * two multiply them in each cycle: AMD's since Zen 3 and Intel's since Ice Lake, which brought VAES too. */
#if defined(STACK_INT16) && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__) && !defined(__VAES__)
int stack_is_faster(void) { return 0; }
#else
int stack_is_faster(void) { return 1; }
#endif

#if defined(STACK_SUPPORTED)
/* Floats in a register, and registers in the row of a tile: 6 rows of sums, with what they are made of, fit. */
#if defined(__AVX__)
#include <immintrin.h>
#endif
#if defined(__AVX512F__)
#define LANES 16
#define TILE_COLUMNS 4
#elif defined(__AVX__)
#define LANES 8
#define TILE_COLUMNS 2
#elif defined(__aarch64__)
#define LANES 4
#define TILE_COLUMNS 4
#else
#define LANES 4
#define TILE_COLUMNS 2
#endif
#define NARROW_COLUMNS 2 /* of the tiles at the right edge: matrices are filled up to whole ones */
#define WIDE (LANES * NARROW_COLUMNS)
/* Columns of B, as wide as a tile, that are put together before many rows of A pass: 32 KB. Wider tiles read more in
 * a row, and were not measured. */
#define PANEL_STEPS (LANES == 16 ? 0 : 512)
#define PANEL_ROWS 48
#define INLINE static inline __attribute__((always_inline))

typedef float lanes __attribute__((vector_size(4 * LANES)));
typedef int32_t truths __attribute__((vector_size(4 * LANES)));
#if LANES == 16
typedef __m512i bits; /* of such a register, whatever they mean */
#else
typedef truths bits;
#endif

/* Every number is computed by one thread, in the same order whatever their number. */
static int threads = 1;

void use_threads(int count) { threads = count; }

/* Whether a loop over so many numbers takes longer than to wake the other threads. */
static int is_worth_threads(long numbers) { return threads > 1 && numbers >= 1 << 15; }

static long wide(long size) { return (size + WIDE - 1) / WIDE * WIDE; }

INLINE lanes load(const float *x)
{
    lanes v;
    memcpy(&v, x, sizeof v);
    return v;
}

INLINE void store(float *x, lanes v) { memcpy(x, &v, sizeof v); }

#if LANES == 16
/* A mask of so many. */
static __mmask16 first(long count) { return (__mmask16)(count <= 0 ? 0 : count < LANES ? (1 << count) - 1 : 0xffff); }

/* The first `count` of them, then zeros. */
INLINE lanes load_part(const float *x, long count) { return (lanes)_mm512_maskz_loadu_ps(first(count), x); }

INLINE void store_part(float *x, lanes v, long count) { _mm512_mask_storeu_ps(x, first(count), (__m512)v); }
#else
/* The first `count` of them, then zeros. */
INLINE lanes load_part(const float *x, long count)
{
    float some[LANES] = {0};
    if (count >= LANES)
        return load(x);
    for (long i = 0; i < count; i++)
        some[i] = x[i];
    return load(some);
}

INLINE void store_part(float *x, lanes v, long count)
{
    float some[LANES];
    if (count >= LANES) {
        store(x, v);
        return;
    }
    store(some, v);
    for (long i = 0; i < count; i++)
        x[i] = some[i];
}
#endif

/* What is not a number stays so, as in torch. */
INLINE lanes relu(lanes v) { return (lanes)((truths)v & ~(truths)(v < 0)); }

INLINE lanes where_not_zero(lanes v, lanes of) { return (lanes)((truths)v & (truths)(of != 0)); }

INLINE lanes where(truths chosen, lanes v, lanes other) { return (lanes)((chosen & (truths)v) | (~chosen & (truths)other)); }

INLINE lanes magnitude(lanes v) { return (lanes)((truths)v & 0x7fffffff); }

INLINE lanes with_sign_of(lanes v, lanes of) { return (lanes)((truths)v | ((truths)of & ~0x7fffffff)); }

/* What is not a number stays so. */
INLINE lanes within(lanes v, float low, float high)
{
    return where(v < low, (lanes){0} + low, where(v > high, (lanes){0} + high, v));
}

/* True of so many. */
INLINE truths of_first(long count)
{
    truths place;
    for (int i = 0; i < LANES; i++)
        place[i] = i;
    return place < (int)count;
}

/* Where tanh_of becomes 1, which depends on how its products are rounded. */
#if defined(__FMA__) || defined(__aarch64__)
#define TANH_ONE 7.99881172180175781f
#else
#define TANH_ONE 7.90531110763549805f
#endif

/* Within 4.1e-7, by the rational function of Eigen (Eigen/src/Core/MathFunctionsImpl.h, ptanh_float): odd, of 13th
 * over 6th degree. */
INLINE lanes tanh_of(lanes v)
{
    v = within(v, -TANH_ONE, TANH_ONE);
    const lanes x = v * v;
    lanes above = x * -2.76076847742355e-16f + 2.00018790482477e-13f;
    above = x * above - 8.60467152213735e-11f;
    above = x * above + 5.12229709037114e-08f;
    above = x * above + 1.48572235717979e-05f;
    above = x * above + 6.37261928875436e-04f;
    above = x * above + 4.89352455891786e-03f;
    lanes below = x * 1.19825839466702e-06f + 1.18534705686654e-04f;
    below = x * below + 2.26843463243900e-03f;
    below = x * below + 4.89352518554385e-03f;
    return v * above / below;
}

/* Within 1e-7 of the result, by Cephes' polynomial (expf.c) on what is left of whole powers of two; below
 * -87 as there. What is not a number stays so. */
INLINE lanes exp_of(lanes v)
{
    const lanes nearest = (lanes){0} + 12582912.0f /* 1.5 * 2^23 */, x = within(v, -87, 88);
    const lanes shifted = x * 1.44269504088896341f + nearest, powers = shifted - nearest;
    const lanes rest = x - powers * 0.693359375f + powers * 2.12194440e-4f;
    lanes sum = rest * 1.9875691500e-4f + 1.3981999507e-3f;
    sum = rest * sum + 8.3334519073e-3f;
    sum = rest * sum + 4.1665795894e-2f;
    sum = rest * sum + 1.6666665459e-1f;
    sum = rest * sum + 5.0000001201e-1f;
    const lanes power = (lanes)(((truths)shifted - (truths)nearest + 127) << 23);
    return (rest * rest * sum + rest + 1) * power;
}

/* log(1 + v) for v from 0 to 1, within 3e-7 of it: twice the area tangent of v / (2 + v), by its series. */
INLINE lanes log1p_of(lanes v)
{
    const lanes z = v / (v + 2), x = z * z;
    lanes sum = x * (1 / 15.0f) + 1 / 13.0f;
    sum = x * sum + 1 / 11.0f;
    sum = x * sum + 1 / 9.0f;
    sum = x * sum + 1 / 7.0f;
    sum = x * sum + 1 / 5.0f;
    sum = x * sum + 1 / 3.0f;
    return 2 * z * (x * sum + 1);
}

INLINE float sum_of(lanes v)
{
    float sum = 0;
    for (int i = 0; i < LANES; i++)
        sum += v[i];
    return sum;
}

/* What a product is made of: units of what is summed over, of one number or of two neighbours in 32 bits. A matrix is kept as
 * its rows, of numbers, whose columns are filled up with zeros to whole tiles. */
#if defined(STACK_BFLOAT16)
#define TOGETHER 2
typedef uint16_t number;
typedef uint32_t unit;
typedef lanes total;
#elif defined(STACK_INT16)
#define TOGETHER 2
typedef float number;
typedef int32_t unit;
typedef truths total; /* sums of products, a register of them */
#else
#define TOGETHER 1
typedef float number;
typedef float unit;
typedef lanes total;
#endif

/* `rows` vectors over what is summed: they begin `row` units apart, and their units are `step` apart. */
struct factor {
    const unit *units;
    long row, step;
    int rows;
    const float *scales; /* [rows] of integers: what the sums are to be multiplied with */
};

/* How many units a sum over so many has. */
static int units(int size) { return (size + TOGETHER - 1) / TOGETHER; }

/* Room for the units of `size` numbers, and for scales of so many vectors and what they undo. */
static long room_for(long size, long vectors) { return size / TOGETHER + 2 * vectors; }
#endif
