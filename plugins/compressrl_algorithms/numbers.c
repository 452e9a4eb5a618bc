/* The numbers that networks are multiplied in, and what differs with them: float, or with -DSTACK_BFLOAT16
 * bfloat16 with float sums (AVX512-BF16), whose instruction multiplies pairs.
 *
 * A product C (M x N) = A . B takes units of the dimension that is summed over: one float, or two bfloat16
 * neighbours in 32 bits. A is units with any strides, B is [K / TOGETHER][N]. A matrix is kept as its rows, whose
 * columns are filled up with zeros to whole tiles.
 */
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
#else
int stack_supported(void) { return 1; }
#define STACK_SUPPORTED
#endif

#if defined(STACK_SUPPORTED)
/* Floats in a register, and registers in the row of a tile: 6 rows of sums, with what they are made of, fit. */
#if defined(__AVX512F__)
#include <immintrin.h>
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

#if LANES == 16
/* 16 x 16 in registers: pairs of rows, then pairs of those, are interleaved; then quarters change places. */
static void transpose_block(__m512i x[LANES])
{
    __m512i y[LANES];
    for (int i = 0; i < LANES; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = _mm512_unpacklo_epi64(y[i + j], y[i + j + 2]);
            x[i + 2 * j + 1] = _mm512_unpackhi_epi64(y[i + j], y[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        const __m512i low_even = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        const __m512i low_odd = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
        const __m512i high_even = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        const __m512i high_odd = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
        y[i] = _mm512_shuffle_i32x4(low_even, high_even, 0x88);
        y[i + 8] = _mm512_shuffle_i32x4(low_even, high_even, 0xdd);
        y[i + 4] = _mm512_shuffle_i32x4(low_odd, high_odd, 0x88);
        y[i + 12] = _mm512_shuffle_i32x4(low_odd, high_odd, 0xdd);
    }
    memcpy(x, y, sizeof y);
}
#else
static void transpose_block(truths x[LANES])
{
    truths y[LANES];
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++)
            y[j][i] = x[i][j];
    memcpy(x, y, sizeof y);
}
#endif

#if defined(STACK_BFLOAT16)
#define TOGETHER 2
typedef uint16_t number;
typedef uint32_t unit;

INLINE lanes numbers(const number *x)
{
    const __m512i wider = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)x));
    return (lanes)_mm512_slli_epi32(wider, 16);
}

INLINE void store_numbers(number *x, lanes v)
{
    _mm256_storeu_si256((void *)x, (__m256i)_mm512_cvtneps_pbh((__m512)v));
}

/* sum + a b, summed over what is together in a unit; a [1], b [LANES] */
INLINE lanes multiply(const unit *a, const unit *b, lanes sum)
{
    const __m512bh row = (__m512bh)_mm512_set1_epi32((int)*a);
    return (lanes)_mm512_dpbf16_ps((__m512)sum, row, (__m512bh)_mm512_loadu_si512(b));
}

/* Two rows as units. */
INLINE void store_pairs(unit *out, __m256i one, __m256i two)
{
    const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(two), 16);
    _mm512_storeu_si512(out, _mm512_or_si512(_mm512_cvtepu16_epi32(one), high));
}

/* Units [rows / 2][stride], filled up with zeros to whole tiles of AMX. */
static const unit *fill(unit *room, int rows, long stride)
{
    const long there = (rows + 1) / 2 * stride;
    memset(room + there, 0, sizeof(unit) * (wide(rows) / 2 * stride - there));
    return room;
}

/* Numbers [rows][stride], rows even, as units over the rows: written to `room`, unless they are that already. */
static const unit *units_of_rows(const number *x, int rows, long stride, unit *room)
{
    for (int r = 0; r < rows; r += 2)
        for (long c = 0; c < stride; c += LANES)
            store_pairs(room + r / 2 * stride + c, _mm256_loadu_si256((const void *)(x + r * stride + c)),
                        _mm256_loadu_si256((const void *)(x + (r + 1) * stride + c)));
    return fill(room, rows, stride);
}

/* The same of floats [rows][columns]; an odd last row stands with zeros. */
static const unit *units_of_floats(const float *x, int rows, int columns, unit *room)
{
    const long stride = wide(columns);
#pragma omp parallel for num_threads(threads) if (is_worth_threads(rows * stride))
    for (int r = 0; r < rows; r += 2)
        for (long c = 0; c < stride; c += LANES) {
            const lanes one = load_part(x + (long)r * columns + c, columns - c);
            const lanes two = load_part(x + (r + 1L) * columns + c, r + 1 < rows ? columns - c : 0);
            store_pairs(room + r / 2 * stride + c, (__m256i)_mm512_cvtneps_pbh((__m512)one),
                        (__m256i)_mm512_cvtneps_pbh((__m512)two));
        }
    return fill(room, rows, stride);
}

/* A row of floats as LANES units. */
INLINE __m512i units_in_a_row(const float *x, long count)
{
    const lanes high = load_part(x + LANES, count - LANES), low = load_part(x, count);
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}
#else
#define TOGETHER 1
typedef float number;
typedef float unit;

INLINE lanes numbers(const number *x) { return load(x); }

INLINE void store_numbers(number *x, lanes v) { store(x, v); }

INLINE lanes multiply(const unit *a, const unit *b, lanes sum) { return sum + *a * load(b); }

static const unit *units_of_rows(const number *x, int rows, long stride, unit *room)
{
    (void)rows, (void)stride, (void)room;
    return x;
}

static const unit *units_of_floats(const float *x, int rows, int columns, unit *room)
{
    const long stride = wide(columns);
    if (stride == columns)
        return x;
#pragma omp parallel for num_threads(threads) if (is_worth_threads(rows * stride))
    for (int r = 0; r < rows; r++)
        for (long c = 0; c < stride; c += LANES)
            store(room + r * stride + c, load_part(x + (long)r * columns + c, columns - c));
    return room;
}

#if LANES == 16
INLINE __m512i units_in_a_row(const float *x, long count) { return (__m512i)load_part(x, count); }
#else
INLINE truths units_in_a_row(const float *x, long count) { return (truths)load_part(x, count); }
#endif
#endif

/* A first factor, of units over the sums: rows are `row` units apart and their neighbours `step`. */
struct factor {
    const unit *units;
    long row, step;
    int rows; /* even */
};

/* The columns of numbers [rows][stride], of which `columns` are meant, as rows of a first factor. */
#if defined(STACK_AMX)
static struct factor turned(const number *x, int rows, int columns, long stride, unit *room)
{
    const long row = wide(rows) / TOGETHER;
    for (long r = 0; r < rows; r += TOGETHER * LANES)
        for (long c = 0; c < stride; c += LANES) {
            __m512i block[LANES] = {0};
            for (int i = 0; i < LANES && r + 2 * i < rows; i++) {
                const number *pair = x + (r + 2 * i) * stride + c;
                store_pairs((unit *)(block + i), _mm256_loadu_si256((const void *)pair),
                            _mm256_loadu_si256((const void *)(pair + stride)));
            }
            transpose_block(block);
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(room + (c + i) * row + r / TOGETHER, block[i]);
        }
    return (struct factor){room, row, 1, (int)wide(columns)};
}
#else
static struct factor turned(const number *x, int rows, int columns, long stride, unit *room)
{
    return (struct factor){units_of_rows(x, rows, stride, room), 1, stride, columns + columns % 2};
}
#endif

/* How many units a sum over so many has. */
static int units(int size) { return (size + TOGETHER - 1) / TOGETHER; }

/* Floats [rows][columns] as units along the columns -> [wide(columns) / TOGETHER][stride], filled up with zeros. */
static void transpose_floats(const float *x, int rows, int columns, unit *out, long stride)
{
#pragma omp parallel for num_threads(threads) if (is_worth_threads(stride * columns))
    for (long r = 0; r < stride; r += LANES)
        for (long c = 0; c < wide(columns); c += TOGETHER * LANES) {
            __typeof__(units_in_a_row(x, 0)) block[LANES];
            for (int i = 0; i < LANES; i++)
                block[i] = units_in_a_row(x + (r + i) * columns + c, r + i < rows ? columns - c : 0);
            transpose_block(block);
            for (int i = 0; i < LANES; i++)
                memcpy(out + (c / TOGETHER + i) * stride + r, block + i, sizeof block[i]);
        }
}
#endif
