/* The functions that exported policies are made of; an exported file takes those that it calls.
 *
 * Weights lie in panels of 16 outputs, so that one vector register holds 16 sums and none is ever added up
 * across its lanes: [outputs / 16][inputs][16] for float, [outputs / 16][inputs / 4][16][4] for int8, which is
 * what one VNNI instruction takes; two such groups in the halves of the bytes for up to 4 bits. The plain loops
 * read the same layout.
 */
/* ---- preamble ---- */
#include <math.h>
#include <stdint.h>
#include <string.h>

/* -DPOLICY_PLAIN leaves plain C alone. */
#if defined(__GNUC__) && !defined(POLICY_PLAIN)
#define POLICY_VECTORS
#endif

#if defined(POLICY_VECTORS) && (defined(__AVX512VNNI__) || defined(__AVX2__))
#include <immintrin.h>
#endif

#if defined(__GNUC__)
#define POLICY_ALIGNED __attribute__((aligned(64)))
#else
#define POLICY_ALIGNED
#endif

#define PANEL 16

/* ---- standardize ---- */
/* y = (x - mean) / std, clipped to +-limit */
static void policy_standardize(const float *x, const float *mean, const float *std, float limit, float *y, int n)
{
    int i;
    for (i = 0; i < n; i++) {
        const float z = (x[i] - mean[i]) / std[i];
        y[i] = z < -limit ? -limit : z > limit ? limit : z;
    }
}

/* ---- linear ---- */
/* y = bias + weight x */
#if defined(POLICY_VECTORS) && (defined(__SSE2__) || defined(__ARM_NEON))
/* Vectors of the width that the registers have; plain loops would keep the sums in memory. */
#if defined(__AVX512F__)
#define LANES 16
#elif defined(__AVX__)
#define LANES 8
#else
#define LANES 4
#endif
#define ABREAST (LANES == 4 ? 2 : 4) /* panels at once: as many sums as registers hold */
typedef float policy_lanes __attribute__((vector_size(4 * LANES)));

static inline __attribute__((always_inline)) void policy_float_panels(
    const float *x, int inputs, const float *weight, const float *bias, float *y, const int count)
{
    policy_lanes sum[4 * PANEL / LANES];
    int i, p, v;
    memcpy(sum, bias, sizeof(float) * PANEL * count);
    for (i = 0; i < inputs; i++)
        for (p = 0; p < count; p++)
            for (v = 0; v < PANEL / LANES; v++) {
                policy_lanes column;
                memcpy(&column, weight + PANEL * (p * inputs + i) + LANES * v, sizeof column);
                sum[p * (PANEL / LANES) + v] += x[i] * column;
            }
    memcpy(y, sum, sizeof(float) * PANEL * count);
}

static void policy_linear(const float *x, int inputs, const float *weight, const float *bias, float *y, int panels)
{
    const int panel = PANEL * inputs;
    for (; panels >= ABREAST; panels -= ABREAST, weight += ABREAST * panel, bias += ABREAST * PANEL, y += ABREAST * PANEL)
        policy_float_panels(x, inputs, weight, bias, y, ABREAST);
    for (; panels > 0; panels--, weight += panel, bias += PANEL, y += PANEL)
        policy_float_panels(x, inputs, weight, bias, y, 1);
}
#else
static void policy_linear(const float *x, int inputs, const float *weight, const float *bias, float *y, int panels)
{
    int i, o;
    for (; panels > 0; panels--, bias += PANEL, y += PANEL) {
        float sum[PANEL];
        for (o = 0; o < PANEL; o++)
            sum[o] = bias[o];
        for (i = 0; i < inputs; i++, weight += PANEL)
            for (o = 0; o < PANEL; o++)
                sum[o] += x[i] * weight[o];
        for (o = 0; o < PANEL; o++)
            y[o] = sum[o];
    }
}
#endif

/* ---- quantize ---- */
/* q = clip(round(x / scale) + zero, 0, 255), rounding half to even */
static void policy_quantize(const float *x, float scale, int zero, uint8_t *q, int n)
{
    const float low = (float)-zero, high = (float)(255 - zero);
    int i;
    for (i = 0; i < n; i++) {
        const float level = x[i] / scale;
        const float clipped = level > low ? (level < high ? level : high) : low;
        /* Adding 1.5 * 2^23 leaves no bits for a fraction: the addition rounds, and the last bits are the whole
         * number. Subtracting it again in float is what -ffast-math would leave out, with the addition. */
        const float shifted = clipped + 12582912.0f;
        int32_t bits;
        memcpy(&bits, &shifted, 4);
        q[i] = (uint8_t)(bits - 0x4b400000 + zero);
    }
}

/* ---- integer_linear ---- */
/* y = scale * (bias + weight q) in 32-bit integers; the bias holds the zero point of q.
 *
 * Where `nibbles` is 1, a byte holds two weights plus 8: the lower half one of an even group of 4 inputs, the upper
 * half its neighbour in the next group. The 8 is taken out of the sums at once, as 8 times the sum of q. */
static int32_t policy_eights(const uint8_t *q, int quads, int nibbles)
{
    int32_t sum = 0;
    int i;
    for (i = 0; nibbles && i < 4 * quads; i++)
        sum += q[i];
    return 8 * sum;
}

#if defined(POLICY_VECTORS) && defined(__AVX512VNNI__) && defined(__AVX512BW__)
static inline __attribute__((always_inline)) void policy_integer_panels(
    const uint8_t *q, int quads, const int8_t *weight, const int32_t *bias, const float *scale, float *y,
    int32_t eights, const int count, const int nibbles)
{
    const int bytes = 4 * PANEL * (quads >> nibbles);
    __m512i sum[8];
    int k, p, half;
    for (p = 0; p < count; p++)
        sum[p] = _mm512_sub_epi32(_mm512_loadu_si512(bias + PANEL * p), _mm512_set1_epi32(eights));
    for (k = 0; k < quads; k += 1 + nibbles, weight += 4 * PANEL)
        for (half = 0; half <= nibbles; half++) {
            int32_t four;
            memcpy(&four, q + 4 * (k + half), 4);
            for (p = 0; p < count; p++) {
                __m512i w = _mm512_loadu_si512(weight + p * bytes);
                if (nibbles)
                    w = _mm512_and_si512(half ? _mm512_srli_epi16(w, 4) : w, _mm512_set1_epi8(15));
                sum[p] = _mm512_dpbusd_epi32(sum[p], _mm512_set1_epi32(four), w);
            }
        }
    for (p = 0; p < count; p++)
        _mm512_storeu_ps(y + PANEL * p, _mm512_mul_ps(_mm512_cvtepi32_ps(sum[p]),
                                                      _mm512_loadu_ps(scale + PANEL * p)));
}

#define ABREAST_INTEGER 8 /* panels at once: enough sums under way to hide the latency of the instruction */
#elif defined(POLICY_VECTORS) && defined(__AVX2__)
/* Without VNNI: products of 16-bit numbers, added in pairs; the pairs of an output are joined at the end. */
static inline __attribute__((always_inline)) void policy_integer_panels(
    const uint8_t *q, int quads, const int8_t *weight, const int32_t *bias, const float *scale, float *y,
    int32_t eights, const int count, const int nibbles)
{
    const int bytes = 4 * PANEL * (quads >> nibbles);
    __m256i pairs[2 * 4];
    int k, p, v, half;
    for (p = 0; p < 4 * count; p++)
        pairs[p] = _mm256_setzero_si256();
    for (k = 0; k < quads; k += 1 + nibbles, weight += 4 * PANEL)
        for (half = 0; half <= nibbles; half++) {
            int32_t four;
            __m256i inputs;
            memcpy(&four, q + 4 * (k + half), 4);
            inputs = _mm256_broadcastq_epi64(_mm_cvtepu8_epi16(_mm_cvtsi32_si128(four)));
            for (p = 0; p < count; p++)
                for (v = 0; v < 4; v++) {
                    __m128i w = _mm_loadu_si128((const void *)(weight + p * bytes + 16 * v));
                    if (nibbles)
                        w = _mm_and_si128(half ? _mm_srli_epi16(w, 4) : w, _mm_set1_epi8(15));
                    pairs[4 * p + v] =
                        _mm256_add_epi32(pairs[4 * p + v], _mm256_madd_epi16(inputs, _mm256_cvtepi8_epi16(w)));
                }
        }
    for (p = 0; p < count; p++) {
        int32_t halves[2 * PANEL];
        memcpy(halves, pairs + 4 * p, sizeof halves);
        for (v = 0; v < PANEL; v++)
            y[PANEL * p + v] =
                (float)(halves[2 * v] + halves[2 * v + 1] + bias[PANEL * p + v] - eights) * scale[PANEL * p + v];
    }
}

#define ABREAST_INTEGER 2
#else
static inline int32_t policy_weight(int8_t byte, int half, int nibbles)
{
    return nibbles ? (uint8_t)byte >> 4 * half & 15 : byte;
}

static inline void policy_integer_panels(const uint8_t *q, int quads, const int8_t *weight, const int32_t *bias,
                                         const float *scale, float *y, int32_t eights, const int count,
                                         const int nibbles)
{
    int32_t sum[PANEL];
    int k, o, half;
    (void)count;
    for (o = 0; o < PANEL; o++)
        sum[o] = bias[o] - eights;
    for (k = 0; k < quads; k += 1 + nibbles, weight += 4 * PANEL)
        for (half = 0; half <= nibbles; half++) {
            const uint8_t *four = q + 4 * (k + half);
            const int16_t a = four[0], b = four[1], c = four[2], d = four[3];
            for (o = 0; o < PANEL; o++) {
                const int8_t *w = weight + 4 * o;
                sum[o] += a * policy_weight(w[0], half, nibbles) + b * policy_weight(w[1], half, nibbles) +
                          c * policy_weight(w[2], half, nibbles) + d * policy_weight(w[3], half, nibbles);
            }
        }
    for (o = 0; o < PANEL; o++)
        y[o] = (float)sum[o] * scale[o];
}

#define ABREAST_INTEGER 1
#endif

static inline void policy_integer_rows(const uint8_t *q, int quads, const int8_t *weight, const int32_t *bias,
                                       const float *scale, float *y, int panels, const int nibbles)
{
    const int32_t eights = policy_eights(q, quads, nibbles);
    while (panels > 0) {
        const int count = panels >= ABREAST_INTEGER ? ABREAST_INTEGER : 1;
        if (count == ABREAST_INTEGER)
            policy_integer_panels(q, quads, weight, bias, scale, y, eights, ABREAST_INTEGER, nibbles);
        else
            policy_integer_panels(q, quads, weight, bias, scale, y, eights, 1, nibbles);
        weight += count * 4 * PANEL * (quads >> nibbles);
        bias += count * PANEL, scale += count * PANEL, y += count * PANEL, panels -= count;
    }
}

static void policy_integer_linear(const uint8_t *q, int quads, const int8_t *weight, const int32_t *bias,
                                  const float *scale, float *y, int panels, int nibbles)
{
    if (nibbles)
        policy_integer_rows(q, quads, weight, bias, scale, y, panels, 1);
    else
        policy_integer_rows(q, quads, weight, bias, scale, y, panels, 0);
}

/* ---- relu ---- */
static void policy_relu(float *x, int n)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = x[i] < 0.0f ? 0.0f : x[i]; /* what is not a number stays so */
}

/* ---- tanh_of ---- */
/* tanh within 6e-7, as a quotient of polynomials (the minimax one of XNNPACK's f32-vtanh rational-9-6): the C
 * library's would be taken one number after the other, this is plain arithmetic for a register of them. */
static inline float policy_tanh_of(float x)
{
    const float most = 7.6235437f; /* from here on the quotient is 1 */
    const float z = x > most ? most : x < -most ? -most : x, zz = z * z;
    const float p = 9.0229996e-3f + zz * (1.1469681e-3f + zz * (2.4323608e-5f + zz * (6.4586594e-8f - zz * 5.5358787e-11f)));
    const float q = 9.0230014e-3f + zz * (4.1546188e-3f + zz * (2.0615126e-4f + zz * 1.7744901e-6f));
    return z * p / q;
}

/* ---- tanh ---- */
static void policy_tanh(float *x, int n)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = policy_tanh_of(x[i]);
}

/* ---- sigmoid ---- */
static void policy_sigmoid(float *x, int n)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = 0.5f * (policy_tanh_of(0.5f * x[i]) + 1.0f);
}

/* ---- silu ---- */
static void policy_silu(float *x, int n)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] *= 0.5f * (policy_tanh_of(0.5f * x[i]) + 1.0f);
}

/* ---- elu ---- */
static void policy_elu(float *x, int n)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = x[i] > 0.0f ? x[i] : expm1f(x[i]);
}

/* ---- rescale ---- */
static void policy_rescale(float *x, const float *scale, const float *offset, int n)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = x[i] * scale[i] + offset[i];
}

/* ---- clip ---- */
static void policy_clip(float *x, const float *low, const float *high, int n)
{
    int i;
    for (i = 0; i < n; i++)
        x[i] = x[i] < low[i] ? low[i] : x[i] > high[i] ? high[i] : x[i];
}
