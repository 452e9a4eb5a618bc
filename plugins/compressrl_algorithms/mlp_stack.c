/* Forward and backward pass of N multilayer perceptrons of one shape, ReLU between their layers; see mlp_stack.py.
 *
 * Products are taken in bfloat16 with float sums (AVX512-BF16). The instruction multiplies pairs: two bfloat16
 * neighbours along the dimension that is summed over, in 32 bits. A product C(M x N) = A . B takes A as pairs with
 * any strides, and B as pairs [K / 2][N]. So a matrix is kept as its rows in bfloat16, which are pairs along the
 * columns, or interleaved, pairs of two rows: [rows / 2][columns]. Columns are filled up with zeros to whole tiles.
 */
#include <stdint.h>

#if !defined(__AVX512BF16__)
int stack_supported(void) { return 0; }
#else
#include <immintrin.h>
#include <string.h>

#define LANES 16
#define TILE_COLUMNS 4 /* vectors; 6 rows of 4 are 24 sums, with what they are made of 29 of 32 registers */
#define WIDE (LANES * TILE_COLUMNS)

typedef uint32_t pair;

int stack_supported(void) { return 1; }

static long wide(long size) { return (size + WIDE - 1) / WIDE * WIDE; }

static __mmask16 first_lanes(long count)
{
    return count >= LANES ? 0xffff : count > 0 ? (__mmask16)((1u << count) - 1) : 0;
}

static __m512i paired(__m256i one, __m256i two)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(one), _mm512_slli_epi32(_mm512_cvtepu16_epi32(two), 16));
}

/* What becomes of a product's sums. */
struct finish {
    const float *bias;    /* [N], added; or NULL */
    const uint16_t *mask; /* [M][stride], sums stay where it is not zero; or NULL */
    int relu;
    float *out; /* [out_rows][out_columns] or NULL: the sums in float, */
    int out_rows, out_columns, accumulate; /* added to what is there */
    uint16_t *rows; /* [M][stride] or NULL: in bfloat16, */
    pair *interleaved; /* [M / 2][stride] or NULL: and in pairs */
    long stride;
};

static inline __attribute__((always_inline)) void finish_tile(
    const struct finish *f, __m512 sum[6][TILE_COLUMNS], int m, int n, const int rows)
{
    for (int j = 0; j < TILE_COLUMNS; j++) {
        const int column = n + LANES * j;
        __m256i previous = _mm256_setzero_si256();
        for (int i = 0; i < rows; i++) {
            const long place = (long)(m + i) * f->stride + column;
            __m512 v = sum[i][j];
            if (f->bias)
                v = _mm512_add_ps(v, _mm512_loadu_ps(f->bias + column));
            if (f->relu)
                v = _mm512_max_ps(v, _mm512_setzero_ps());
            if (f->mask) {
                const __m256i kept = _mm256_loadu_si256((const void *)(f->mask + place));
                v = _mm512_maskz_mov_ps(_mm256_test_epi16_mask(kept, kept), v);
            }
            if (f->out && m + i < f->out_rows) {
                const __mmask16 exist = first_lanes(f->out_columns - column);
                float *cells = f->out + (long)(m + i) * f->out_columns + column;
                if (f->accumulate)
                    v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(exist, cells));
                _mm512_mask_storeu_ps(cells, exist, v);
            }
            if (f->rows) {
                const __m256i low = (__m256i)_mm512_cvtneps_pbh(v);
                _mm256_storeu_si256((void *)(f->rows + place), low);
                if (f->interleaved && i % 2)
                    _mm512_storeu_si512(f->interleaved + (m + i) / 2 * f->stride + column, paired(previous, low));
                previous = low;
            }
        }
    }
}

static inline __attribute__((always_inline)) void tile(
    const pair *a, long a_row, long a_step, const pair *b, long b_step, int steps, const struct finish *f, int m,
    int n, const int rows)
{
    __m512 sum[6][TILE_COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < TILE_COLUMNS; j++)
            sum[i][j] = _mm512_setzero_ps();
    a += m * a_row;
    b += n;
    for (int k = 0; k < steps; k++, a += a_step, b += b_step)
        for (int i = 0; i < rows; i++) {
            const __m512bh row = (__m512bh)_mm512_set1_epi32((int)a[i * a_row]);
            for (int j = 0; j < TILE_COLUMNS; j++)
                sum[i][j] = _mm512_dpbf16_ps(sum[i][j], row, (__m512bh)_mm512_loadu_si512(b + LANES * j));
        }
    finish_tile(f, sum, m, n, rows);
}

/* A [M][2 steps] by B [2 steps][N]: M even, N whole tiles. */
static void product(const pair *a, long a_row, long a_step, const pair *b, long b_step, int steps, int M, int N,
                    const struct finish *f)
{
    for (int n = 0; n < N; n += WIDE) {
        int m = 0;
        for (; m + 6 <= M; m += 6)
            tile(a, a_row, a_step, b, b_step, steps, f, m, n, 6);
        for (; m < M; m += 2)
            tile(a, a_row, a_step, b, b_step, steps, f, m, n, 2);
    }
}

/* Floats [rows][x_stride], of which `columns` count, as bfloat16 [rows][stride]. */
static void to_rows(const float *x, int rows, int columns, long x_stride, uint16_t *out, long stride)
{
    for (int r = 0; r < rows; r++)
        for (long c = 0; c < stride; c += LANES) {
            const __m512 v = _mm512_maskz_loadu_ps(first_lanes(columns - c), x + r * x_stride + c);
            _mm256_storeu_si256((void *)(out + r * stride + c), (__m256i)_mm512_cvtneps_pbh(v));
        }
}

/* Rows as interleaved pairs; an odd last row stands with zeros. */
static void interleave(const uint16_t *x, int rows, long stride, pair *out)
{
    for (int r = 0; r < rows; r += 2)
        for (long c = 0; c < stride; c += LANES) {
            const __m256i one = _mm256_loadu_si256((const void *)(x + r * stride + c));
            const __m256i two = r + 1 < rows ? _mm256_loadu_si256((const void *)(x + (r + 1) * stride + c))
                                             : _mm256_setzero_si256();
            _mm512_storeu_si512(out + r / 2 * stride + c, paired(one, two));
        }
}

/* [rows][columns] -> [columns][out_rows], filled up with zeros */
static void transpose(const pair *x, int rows, long columns, pair *out, long out_rows)
{
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i index = _mm512_mullo_epi32(lane, _mm512_set1_epi32((int)columns));
    for (long r = 0; r < out_rows; r += LANES)
        for (long c = 0; c < columns; c++)
            _mm512_storeu_si512(out + c * out_rows + r,
                                _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), first_lanes(rows - r), index,
                                                            x + r * columns + c, 4));
}

/* Sums over the batch. */
static void column_sums(const pair *x, int row_pairs, long stride, int columns, float *sums)
{
    const __m512bh ones = (__m512bh)_mm512_set1_epi32(0x3f803f80);
    for (int c = 0; c < columns; c += LANES) {
        __m512 sum = _mm512_setzero_ps();
        for (int r = 0; r < row_pairs; r++)
            sum = _mm512_dpbf16_ps(sum, ones, (__m512bh)_mm512_loadu_si512(x + r * stride + c));
        _mm512_mask_storeu_ps(sums + c, first_lanes(columns - c), sum);
    }
}

/* A single output is a dot product a row: a tile would compute 63 for nothing. */
static void single_output(const uint16_t *x, int rows, long stride, const float *weight, int inputs, float bias,
                          float *out)
{
    for (int r = 0; r < rows; r++) {
        __m512 sum = _mm512_setzero_ps();
        for (int c = 0; c < inputs; c += LANES) {
            const __m256i low = _mm256_loadu_si256((const void *)(x + r * stride + c));
            const __m512 v = (__m512)_mm512_slli_epi32(_mm512_cvtepu16_epi32(low), 16);
            sum = _mm512_fmadd_ps(v, _mm512_maskz_loadu_ps(first_lanes(inputs - c), weight + c), sum);
        }
        out[r] = _mm512_reduce_add_ps(sum) + bias;
    }
}

/* The shape of a stack: sizes[layers + 1], batch even. */
struct shape {
    const int *sizes;
    int layers, count, batch;
};

static long widest(const struct shape *s)
{
    long most = 0;
    for (int i = 0; i <= s->layers; i++)
        most = wide(s->sizes[i]) > most ? wide(s->sizes[i]) : most;
    return most;
}

/* Bytes of the inputs of the first `layers` layers of one network, as rows and interleaved. */
static long input_bytes(const struct shape *s, int layers)
{
    long bytes = 0;
    for (int i = 0; i < layers; i++)
        bytes += 4 * s->batch * wide(s->sizes[i]);
    return bytes;
}

/* The workspace: inputs of all layers of all networks, one weight matrix twice, a bias, two gradients twice. */
long stack_workspace_bytes(const int *sizes, int layers, int count, int batch)
{
    const struct shape s = {sizes, layers, count, batch};
    const long most = widest(&s);
    return count * input_bytes(&s, layers) + 4 * most * most + 4 * most + 8 * batch * most;
}

static uint16_t *input_rows(char *workspace, const struct shape *s, int n, int layer)
{
    /* The first input is the same for all networks. */
    return (uint16_t *)(workspace + (layer ? n : 0) * input_bytes(s, s->layers) + input_bytes(s, layer));
}

static pair *input_pairs(char *workspace, const struct shape *s, int n, int layer)
{
    return (pair *)(input_rows(workspace, s, n, layer) + s->batch * wide(s->sizes[layer]));
}

/* Where the parameters of a layer of network n begin: weights [count][outputs][inputs], biases [count][outputs]. */
static void offsets(const struct shape *s, int n, int layer, long *weight, long *bias)
{
    long start = 0;
    for (int i = 0; i < layer; i++)
        start += (long)s->count * s->sizes[i + 1] * (s->sizes[i] + 1);
    const long inputs = s->sizes[layer], outputs = s->sizes[layer + 1];
    *weight = start + n * outputs * inputs;
    *bias = start + s->count * outputs * inputs + n * outputs;
}

/* x [batch][sizes[0]] -> out [used][batch][outputs] of the first `used` networks. `keep` what `backward` needs. */
void stack_forward(const float *vector, const int *sizes, int layers, int count, int used, int batch, const float *x,
                   char *workspace, float *out, int keep)
{
    const struct shape s = {sizes, layers, count, batch};
    const long most = widest(&s);
    uint16_t *weight_rows = (uint16_t *)(workspace + count * input_bytes(&s, layers));
    pair *weight_pairs = (pair *)(weight_rows + most * most);
    float *padded_bias = (float *)(weight_pairs + most * most / 2);
    to_rows(x, batch, sizes[0], sizes[0], input_rows(workspace, &s, 0, 0), wide(sizes[0]));
    if (keep)
        interleave(input_rows(workspace, &s, 0, 0), batch, wide(sizes[0]), input_pairs(workspace, &s, 0, 0));
    for (int n = 0; n < used; n++)
        for (int i = 0; i < layers; i++) {
            const int inputs = sizes[i], outputs = sizes[i + 1], last = i + 1 == layers;
            const uint16_t *input = input_rows(workspace, &s, n, i);
            struct finish f = {.bias = padded_bias, .relu = !last, .stride = wide(outputs)};
            long weight, bias;
            offsets(&s, n, i, &weight, &bias);
            if (last && outputs == 1) {
                single_output(input, batch, wide(inputs), vector + weight, inputs, vector[bias], out + n * batch);
                continue;
            }
            to_rows(vector + weight, outputs, inputs, inputs, weight_rows, wide(inputs));
            transpose((const pair *)weight_rows, outputs, wide(inputs) / 2, weight_pairs, wide(outputs));
            memset(padded_bias, 0, sizeof(float) * wide(outputs));
            memcpy(padded_bias, vector + bias, sizeof(float) * outputs);
            if (last) {
                f.out = out + (long)n * batch * outputs;
                f.out_rows = batch;
                f.out_columns = outputs;
            } else {
                f.rows = input_rows(workspace, &s, n, i + 1);
                f.interleaved = keep ? input_pairs(workspace, &s, n, i + 1) : 0;
            }
            product((const pair *)input, wide(inputs) / 2, 1, weight_pairs, wide(outputs), (inputs + 1) / 2, batch,
                    (int)wide(outputs), &f);
        }
}

/* From the gradient of `out`: that of all parameters (used = count), or NULL; that of the last `columns` inputs
 * [batch][columns], summed over the networks, or NULL. */
void stack_backward(const float *vector, const int *sizes, int layers, int count, int used, int batch,
                    const float *out_gradient, char *workspace, float *gradient, float *input_gradient, int columns)
{
    const struct shape s = {sizes, layers, count, batch};
    const long most = widest(&s);
    uint16_t *weight_rows = (uint16_t *)(workspace + count * input_bytes(&s, layers));
    pair *weight_pairs = (pair *)(weight_rows + most * most);
    uint16_t *rows = (uint16_t *)((float *)(weight_pairs + most * most / 2) + most), *next_rows = rows + batch * most;
    pair *pairs = (pair *)(next_rows + batch * most), *next_pairs = pairs + batch / 2 * most;
    for (int n = 0; n < used; n++) {
        to_rows(out_gradient + (long)n * batch * sizes[layers], batch, sizes[layers], sizes[layers], rows,
                wide(sizes[layers]));
        interleave(rows, batch, wide(sizes[layers]), pairs);
        for (int i = layers - 1; i >= 0; i--) {
            const int inputs = sizes[i], outputs = sizes[i + 1];
            long weight, bias;
            offsets(&s, n, i, &weight, &bias);
            if (gradient) {
                /* (outputs x batch) . (batch x inputs) */
                const struct finish f = {
                    .out = gradient + weight, .out_rows = outputs, .out_columns = inputs, .stride = wide(inputs)};
                product(pairs, 1, wide(outputs), input_pairs(workspace, &s, n, i), wide(inputs), batch / 2,
                        outputs + outputs % 2, (int)wide(inputs), &f);
                column_sums(pairs, batch / 2, wide(outputs), outputs, gradient + bias);
            }
            if (i || input_gradient) {
                /* (batch x outputs) . (outputs x inputs), of the first layer only the columns that are asked for */
                const int from = i ? 0 : inputs - columns;
                struct finish f = {.stride = wide(inputs - from)};
                to_rows(vector + weight + from, outputs, inputs - from, inputs, weight_rows, f.stride);
                interleave(weight_rows, outputs, f.stride, weight_pairs);
                if (i) {
                    f.mask = input_rows(workspace, &s, n, i);
                    f.rows = next_rows;
                    f.interleaved = next_pairs;
                } else {
                    f.out = input_gradient;
                    f.out_rows = batch;
                    f.out_columns = columns;
                    f.accumulate = n > 0;
                }
                product((const pair *)rows, wide(outputs) / 2, 1, weight_pairs, f.stride, (outputs + 1) / 2, batch,
                        (int)f.stride, &f);
                uint16_t *const r = rows;
                pair *const p = pairs;
                rows = next_rows, next_rows = r;
                pairs = next_pairs, next_pairs = p;
            }
        }
    }
}
#endif
