/* Forward and backward pass of N multilayer perceptrons of one shape, ReLU between their layers; see
 * kernel_stack.py; and Adam.
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
#include <math.h>
#include <string.h>

#define LANES 16
#define TILE_COLUMNS 4 /* vectors; 6 rows of 4 are 24 sums, with what they are made of 29 of 32 registers */
#define NARROW_COLUMNS 2 /* of the tiles at the right edge: matrices are filled up to whole ones */
#define WIDE (LANES * NARROW_COLUMNS)

typedef uint32_t pair;

int stack_supported(void) { return 1; }

/* Every number is computed by one thread, in the same order whatever their number. */
static int threads = 1;

void use_threads(int count) { threads = count; }

static long wide(long size) { return (size + WIDE - 1) / WIDE * WIDE; }

static __mmask16 first_lanes(long count)
{
    return count >= LANES ? 0xffff : count > 0 ? (__mmask16)((1u << count) - 1) : 0;
}

/* Two rows as pairs. */
static __m512i paired(__m256i one, __m256i two)
{
    return _mm512_or_si512(_mm512_cvtepu16_epi32(one), _mm512_slli_epi32(_mm512_cvtepu16_epi32(two), 16));
}

/* The instruction gives the second operand where one is not a number: as in torch, it stays so. */
static __m512 relu(__m512 v) { return _mm512_max_ps(_mm512_setzero_ps(), v); }

/* What becomes of a product's sums. */
struct finish {
    const float *bias;    /* [N], added; or NULL */
    const uint16_t *mask; /* [rows][stride], sums stay where it is not zero; or NULL */
    const int *row_of;    /* [M] the rows of `mask` and `out` that are meant; or NULL: the same */
    int relu;
    float *out; /* [out_rows][out_columns] or NULL: the sums in float, */
    int out_rows, out_columns, accumulate; /* added to what is there */
    uint16_t *rows; /* [M][stride] or NULL: in bfloat16 */
    long stride;
};

static inline __attribute__((always_inline)) void finish_tile(
    const struct finish *f, __m512 sum[6][TILE_COLUMNS], int m, int n, const int rows, const int columns)
{
    for (int j = 0; j < columns; j++) {
        const int column = n + LANES * j;
        for (int i = 0; i < rows; i++) {
            const long place = (m + i) * f->stride + column, row = f->row_of ? f->row_of[m + i] : m + i;
            __m512 v = sum[i][j];
            if (f->bias)
                v = _mm512_add_ps(v, _mm512_loadu_ps(f->bias + column));
            if (f->relu)
                v = relu(v);
            if (f->mask) {
                const __m256i kept = _mm256_loadu_si256((const void *)(f->mask + row * f->stride + column));
                v = _mm512_maskz_mov_ps(_mm256_test_epi16_mask(kept, kept), v);
            }
            if (f->out && m + i < f->out_rows) {
                const __mmask16 exist = first_lanes(f->out_columns - column);
                float *cells = f->out + row * f->out_columns + column;
                if (f->accumulate)
                    v = _mm512_add_ps(v, _mm512_maskz_loadu_ps(exist, cells));
                _mm512_mask_storeu_ps(cells, exist, v);
            }
            if (f->rows)
                _mm256_storeu_si256((void *)(f->rows + place), (__m256i)_mm512_cvtneps_pbh(v));
        }
    }
}

static inline __attribute__((always_inline)) void tile(
    const pair *a, long a_row, long a_step, const pair *b, long b_step, int steps, const struct finish *f, int m,
    int n, const int rows, const int columns)
{
    __m512 sum[6][TILE_COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            sum[i][j] = _mm512_setzero_ps();
    a += m * a_row;
    b += n;
    for (int k = 0; k < steps; k++, a += a_step, b += b_step)
        for (int i = 0; i < rows; i++) {
            const __m512bh row = (__m512bh)_mm512_set1_epi32((int)a[i * a_row]);
            for (int j = 0; j < columns; j++)
                sum[i][j] = _mm512_dpbf16_ps(sum[i][j], row, (__m512bh)_mm512_loadu_si512(b + LANES * j));
        }
    finish_tile(f, sum, m, n, rows, columns);
}

static inline __attribute__((always_inline)) void panel(
    const pair *a, long a_row, long a_step, const pair *b, long b_step, int steps, int m, int end,
    const struct finish *f, int n, const int columns)
{
    for (; m + 6 <= end; m += 6)
        tile(a, a_row, a_step, b, b_step, steps, f, m, n, 6, columns);
    for (; m < end; m += 2)
        tile(a, a_row, a_step, b, b_step, steps, f, m, n, 2, columns);
}

/* A [M][2 steps] by B [2 steps][N]: M even, N whole narrow tiles. */
static void product(const pair *a, long a_row, long a_step, const pair *b, long b_step, int steps, int M, int N,
                    const struct finish *f)
{
    /* In rows: threads that write parts of one row get in each other's way. */
    const int share = (M / (6 * threads) + (M % (6 * threads) != 0)) * 6;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int part = 0; part < threads; part++) {
        const int m = part * share, end = m + share < M ? m + share : M;
        int n = 0;
        for (; n + LANES * TILE_COLUMNS <= N; n += LANES * TILE_COLUMNS)
            panel(a, a_row, a_step, b, b_step, steps, m, end, f, n, TILE_COLUMNS);
        if (n < N)
            panel(a, a_row, a_step, b, b_step, steps, m, end, f, n, NARROW_COLUMNS);
    }
}

/* Floats [rows][x_stride], of which `columns` count, as bfloat16 [rows][stride] filled up with zeros to `width`. */
static void to_rows(const float *x, int rows, int columns, long x_stride, uint16_t *out, long stride, long width)
{
    for (int r = 0; r < rows; r++)
        for (long c = 0; c < width; c += LANES) {
            const __m512 v = _mm512_maskz_loadu_ps(first_lanes(columns - c), x + r * x_stride + c);
            _mm256_mask_storeu_epi16(out + r * stride + c, first_lanes(width - c), (__m256i)_mm512_cvtneps_pbh(v));
        }
}

/* Rows as interleaved pairs. */
static void interleave(const uint16_t *x, int rows, long stride, pair *out)
{
    for (int r = 0; r < rows; r += 2)
        for (long c = 0; c < stride; c += LANES)
            _mm512_storeu_si512(out + r / 2 * stride + c,
                                paired(_mm256_loadu_si256((const void *)(x + r * stride + c)),
                                       _mm256_loadu_si256((const void *)(x + (r + 1) * stride + c))));
}

/* The same of floats [rows][columns]; an odd last row stands with zeros. */
static void interleave_floats(const float *x, int rows, int columns, pair *out, long stride)
{
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int r = 0; r < rows; r += 2)
        for (long c = 0; c < stride; c += LANES) {
            const __mmask16 exist = first_lanes(columns - c), both = r + 1 < rows ? exist : 0;
            const __m512 one = _mm512_maskz_loadu_ps(exist, x + (long)r * columns + c);
            const __m512 two = _mm512_maskz_loadu_ps(both, x + (r + 1L) * columns + c);
            _mm512_storeu_si512(out + r / 2 * stride + c,
                                paired((__m256i)_mm512_cvtneps_pbh(one), (__m256i)_mm512_cvtneps_pbh(two)));
        }
}

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

/* Floats [rows][columns] as pairs along the columns -> [wide(columns) / 2][stride], filled up with zeros. */
static void transpose_floats(const float *x, int rows, int columns, pair *out, long stride)
{
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long r = 0; r < stride; r += LANES)
        for (long c = 0; c < wide(columns); c += 2 * LANES) {
            __m512i block[LANES];
            for (int i = 0; i < LANES; i++) {
                const float *row = x + (r + i) * columns + c;
                const long left = r + i < rows ? columns - c : 0;
                block[i] = (__m512i)_mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(first_lanes(left - LANES), row + LANES),
                                                        _mm512_maskz_loadu_ps(first_lanes(left), row));
            }
            transpose_block(block);
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(out + (c / 2 + i) * stride + r, block[i]);
        }
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

/* A stack at one batch size: sizes[layers + 1], batch even. */
struct stack {
    const int *sizes;
    int layers, count, batch;
    float *vector;   /* all parameters */
    uint16_t *kept;  /* of a pass for its gradient */
    float *values;   /* room for [count][batch][outputs] */
    float *gradient; /* room for that of all parameters */
};

static long widest(const struct stack *s)
{
    long most = 0;
    for (int i = 0; i <= s->layers; i++)
        most = wide(s->sizes[i]) > most ? wide(s->sizes[i]) : most;
    return most;
}

/* Numbers that the inputs of the first `layers` layers of one network have as rows. */
static long input_numbers(const struct stack *s, int layers)
{
    long numbers = 0;
    for (int i = 0; i < layers; i++)
        numbers += s->batch * wide(s->sizes[i]);
    return numbers;
}

/* What a stack keeps of a pass for its gradient: inputs of all layers of all networks. */
long stack_kept_bytes(const int *sizes, int layers, int count, int batch)
{
    const struct stack s = {sizes, layers, count, batch, 0, 0, 0, 0};
    return 2 * count * input_numbers(&s, layers);
}

static uint16_t *input_rows(uint16_t *kept, const struct stack *s, int n, int layer)
{
    /* The first input is the same for all networks. */
    return kept + (layer ? n : 0) * input_numbers(s, s->layers) + input_numbers(s, layer);
}

/* What is in use during a call only. It is one for all stacks, so that it stays in the cache. */
struct scratch {
    float *bias;
    pair *weight, *input, *sums;
    uint16_t *rows, *next_rows;
    int *row_of;
};

static struct scratch cut(char *memory, const struct stack *s)
{
    const long most = widest(s);
    struct scratch t = {.bias = (float *)memory, .weight = (pair *)memory + most};
    t.input = t.weight + most * most / 2;
    t.sums = t.input + s->batch / 2 * most;
    t.rows = (uint16_t *)(t.sums + s->batch / 2 * most);
    t.next_rows = t.rows + s->batch * most;
    t.row_of = (int *)(t.next_rows + s->batch * most);
    return t;
}

long stack_scratch_bytes(const int *sizes, int layers, int batch)
{
    const struct stack s = {sizes, layers, 1, batch, 0, 0, 0, 0};
    return (char *)(cut(0, &s).row_of + batch) - (char *)0;
}

/* Where the parameters of a layer of network n begin: weights [count][inputs][outputs], biases [count][outputs].
 * In this order a pass reads the weights as they lie, and only the gradient of a hidden layer turns them. */
static void offsets(const struct stack *s, int n, int layer, long *weight, long *bias)
{
    long start = 0;
    for (int i = 0; i < layer; i++)
        start += (long)s->count * s->sizes[i + 1] * (s->sizes[i] + 1);
    const long inputs = s->sizes[layer], outputs = s->sizes[layer + 1];
    *weight = start + n * inputs * outputs;
    *bias = start + s->count * inputs * outputs + n * outputs;
}

/* Observations and, beside them, actions: rows of x and y, `x_stride` and `y_stride` floats apart, of y the first
 * y_columns count, of x as many as are left. */
struct inputs {
    const float *x, *y;
    long x_stride, y_stride;
    int y_columns;
};

/* Inputs -> out [used][batch][outputs] of the first `used` networks. What a gradient needs is kept if asked for;
 * else the pass stays within memory that is in the cache. */
void stack_forward(const struct stack *s, int used, const struct inputs *in, int keep, char *memory, float *out)
{
    struct scratch scratch = cut(memory, s);
    uint16_t *const first = keep ? s->kept : (uint16_t *)scratch.input;
    const int *const sizes = s->sizes, batch = s->batch, x_columns = sizes[0] - in->y_columns;
    const long stride = wide(sizes[0]);
    to_rows(in->x, batch, x_columns, in->x_stride, first, stride, in->y_columns ? x_columns : stride);
    if (in->y_columns)
        to_rows(in->y, batch, in->y_columns, in->y_stride, first + x_columns, stride, stride - x_columns);
    for (int n = 0; n < used; n++) {
        const uint16_t *input = first;
        for (int i = 0; i < s->layers; i++) {
            const int inputs = sizes[i], outputs = sizes[i + 1], last = i + 1 == s->layers;
            struct finish f = {.bias = scratch.bias, .relu = !last, .stride = wide(outputs)};
            long weight, bias;
            offsets(s, n, i, &weight, &bias);
            if (last && outputs == 1) {
                single_output(input, batch, wide(inputs), s->vector + weight, inputs, s->vector[bias], out + n * batch);
                continue;
            }
            interleave_floats(s->vector + weight, inputs, outputs, scratch.weight, wide(outputs));
            memset(scratch.bias, 0, sizeof(float) * wide(outputs));
            memcpy(scratch.bias, s->vector + bias, sizeof(float) * outputs);
            if (last) {
                f.out = out + (long)n * batch * outputs;
                f.out_rows = batch;
                f.out_columns = outputs;
            } else if (keep)
                f.rows = input_rows(s->kept, s, n, i + 1);
            else
                f.rows = i % 2 ? scratch.next_rows : scratch.rows;
            product((const pair *)input, wide(inputs) / 2, 1, scratch.weight, wide(outputs), (inputs + 1) / 2, batch,
                    (int)wide(outputs), &f);
            input = f.rows;
        }
    }
}

/* Numbers of the rows that are not all zeros, and how many there are; where that is odd, one more that is any. */
static int rows_not_zero(const float *x, int rows, int columns, int *found)
{
    int count = 0;
    for (int r = 0; r < rows; r++) {
        int any = 0;
        for (int c = 0; c < columns; c++)
            any |= x[r * columns + c] != 0;
        if (any)
            found[count++] = r;
    }
    if (count % 2)
        found[count] = 0;
    return count;
}

/* The gradient of the parameters of one layer, from that of its sums (batch x outputs) and its input. */
static void parameter_gradient(const struct scratch *scratch, const uint16_t *x, int batch, int inputs, int outputs,
                               float *weight, float *bias)
{
    interleave(scratch->rows, batch, wide(outputs), scratch->sums);
    interleave(x, batch, wide(inputs), scratch->input);
    if (outputs == 1) {
        /* One row and one column lie the same, and a tile of one row does less for nothing. */
        const struct finish f = {.out = weight, .out_rows = 1, .out_columns = inputs, .stride = wide(inputs)};
        product(scratch->sums, 1, wide(1), scratch->input, wide(inputs), batch / 2, 2, (int)wide(inputs), &f);
    } else {
        const struct finish f = {.out = weight, .out_rows = inputs, .out_columns = outputs, .stride = wide(outputs)};
        product(scratch->input, 1, wide(inputs), scratch->sums, wide(outputs), batch / 2, inputs + inputs % 2,
                (int)wide(outputs), &f);
    }
    column_sums(scratch->sums, batch / 2, wide(outputs), outputs, bias);
}

/* From the gradient of `out`: that of all parameters (used = count), or NULL; that of the last `columns` inputs
 * [batch][columns], summed over the networks, or NULL. Where only the latter is wanted, rows whose gradient is zero
 * are left out: below the minimum over networks, each row has its gradient in one of them. */
void stack_backward(const struct stack *s, int used, const float *out_gradient, char *memory, float *gradient,
                    float *input_gradient, int columns)
{
    const int *const sizes = s->sizes, layers = s->layers, batch = s->batch;
    const long out_stride = wide(sizes[layers]);
    struct scratch scratch = cut(memory, s);
    const int *row_of = gradient ? 0 : scratch.row_of;
    if (input_gradient)
        memset(input_gradient, 0, sizeof(float) * batch * columns);
    for (int n = 0; n < used; n++) {
        const float *above = out_gradient + (long)n * batch * sizes[layers];
        const int M = row_of ? rows_not_zero(above, batch, sizes[layers], scratch.row_of) : batch, even = M + M % 2;
        for (int r = 0; r < even; r++)
            to_rows(above + (long)(row_of ? row_of[r] : r) * sizes[layers], 1, sizes[layers], sizes[layers],
                    scratch.rows + r * out_stride, out_stride, out_stride);
        for (int i = layers - 1; i >= 0; i--) {
            const int inputs = sizes[i], outputs = sizes[i + 1];
            uint16_t *input = input_rows(s->kept, s, n, i), *const rows = scratch.rows;
            long weight, bias;
            offsets(s, n, i, &weight, &bias);
            if (gradient)
                parameter_gradient(&scratch, input, batch, inputs, outputs, gradient + weight, gradient + bias);
            if (i || input_gradient) {
                /* (batch x outputs) . (outputs x inputs), of the first layer only the columns that are asked for */
                const int from = i ? 0 : inputs - columns;
                struct finish f = {.stride = wide(inputs - from), .row_of = row_of};
                transpose_floats(s->vector + weight + from * (long)outputs, inputs - from, outputs, scratch.weight, f.stride);
                if (i) {
                    f.mask = input;
                    f.rows = scratch.next_rows;
                } else {
                    f.out = input_gradient;
                    f.out_rows = M;
                    f.out_columns = columns;
                    f.accumulate = 1;
                }
                product((const pair *)rows, wide(outputs) / 2, 1, scratch.weight, f.stride, (outputs + 1) / 2, even,
                        (int)f.stride, &f);
                scratch.rows = scratch.next_rows, scratch.next_rows = rows;
            }
        }
    }
}

/* One observation through network 0 in float: x [sizes[0]] -> out. */
void stack_act(const struct stack *s, const float *x, char *memory, float *out)
{
    float *hidden = (float *)memory, *next = hidden + widest(s);
    for (int i = 0; i < s->layers; i++) {
        const int inputs = s->sizes[i], outputs = s->sizes[i + 1], last = i + 1 == s->layers;
        float *const result = last ? out : next;
        long weight, bias;
        offsets(s, 0, i, &weight, &bias);
        for (int o = 0; o < outputs; o += TILE_COLUMNS * LANES) {
            __m512 sum[TILE_COLUMNS];
            __mmask16 exist[TILE_COLUMNS];
            for (int j = 0; j < TILE_COLUMNS; j++) {
                exist[j] = first_lanes(outputs - o - j * LANES);
                sum[j] = _mm512_maskz_loadu_ps(exist[j], s->vector + bias + o + j * LANES);
            }
            for (int c = 0; c < inputs; c++)
                for (int j = 0; j < TILE_COLUMNS; j++) {
                    const float *const column = s->vector + weight + (long)c * outputs + o + j * LANES;
                    sum[j] = _mm512_fmadd_ps(_mm512_set1_ps(x[c]), _mm512_maskz_loadu_ps(exist[j], column), sum[j]);
                }
            for (int j = 0; j < TILE_COLUMNS; j++)
                _mm512_mask_storeu_ps(result + o + j * LANES, exist[j],
                                      last ? sum[j] : relu(sum[j]));
        }
        x = next, next = hidden, hidden = result;
    }
}

/* What Adam (Kingma & Ba 2015, algorithm 1) knows of `size` parameters; `step` counts the steps. */
struct adam {
    float *mean, *square, *step;
    long size;
    double beta1, beta2, rate;
    float epsilon;
};

void adam_step(const struct adam *a, float *vector, const float *gradient)
{
    *a->step += 1;
    const __m512 of_mean = _mm512_set1_ps((float)(1 - a->beta1)), of_square = _mm512_set1_ps((float)(1 - a->beta2));
    const __m512 corrected_rate = _mm512_set1_ps((float)(a->rate / (1 - pow(a->beta1, *a->step))));
    const __m512 correction = _mm512_set1_ps((float)(1 / sqrt(1 - pow(a->beta2, *a->step))));
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (long i = 0; i < a->size; i += LANES) {
        const __mmask16 exist = first_lanes(a->size - i);
        const __m512 g = _mm512_maskz_loadu_ps(exist, gradient + i), p = _mm512_maskz_loadu_ps(exist, vector + i);
        __m512 m = _mm512_maskz_loadu_ps(exist, a->mean + i), v = _mm512_maskz_loadu_ps(exist, a->square + i);
        m = _mm512_fmadd_ps(of_mean, _mm512_sub_ps(g, m), m);
        v = _mm512_fmadd_ps(of_square, _mm512_sub_ps(_mm512_mul_ps(g, g), v), v);
        const __m512 deviation = _mm512_fmadd_ps(_mm512_sqrt_ps(v), correction, _mm512_set1_ps(a->epsilon));
        const __m512 move = _mm512_div_ps(_mm512_mul_ps(corrected_rate, m), deviation);
        _mm512_mask_storeu_ps(a->mean + i, exist, m);
        _mm512_mask_storeu_ps(a->square + i, exist, v);
        _mm512_mask_storeu_ps(vector + i, exist, _mm512_sub_ps(p, move));
    }
}
#endif
