/* Factors of a product in integers of 16 bits, whose instruction multiplies pairs and sums them in 32.
 *
 * Each vector that is summed over has a scale (block floating point). A typical one of 256 numbers then has 10 or 11 bits:
 * errors of a product are a few ten-thousandths, a third to an eighth of bfloat16's. Between products numbers are float. */
#if defined(STACK_SUPPORTED) && defined(STACK_INT16)
INLINE lanes numbers(const number *x) { return load(x); }

INLINE void store_numbers(number *x, lanes v) { store(x, v); }

/* sum + a b, summed over what is together in a unit; a [1], b [LANES] */
INLINE total multiply(const unit *a, const unit *b, total sum)
{
#if defined(__AVX512VNNI__)
    return (total)_mm512_dpwssd_epi32((__m512i)sum, _mm512_set1_epi32(*a), _mm512_loadu_si512(b));
#elif defined(__AVX512BW__)
    return sum + (total)_mm512_madd_epi16(_mm512_set1_epi32(*a), _mm512_loadu_si512(b));
#elif defined(__AVXVNNI__) && LANES == 8
    return (total)_mm256_dpwssd_avx_epi32((__m256i)sum, _mm256_set1_epi32(*a), _mm256_loadu_si256((const void *)b));
#else
    return sum + (total)_mm256_madd_epi16(_mm256_set1_epi32(*a), _mm256_loadu_si256((const void *)b));
#endif
}

#if LANES == 16
INLINE truths nearest(lanes v) { return (truths)_mm512_cvtps_epi32((__m512)v); }

INLINE truths in_pairs(truths low, truths high)
{
    const __m512i order = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
    return (truths)_mm512_permutexvar_epi64(order, _mm512_packs_epi32((__m512i)low, (__m512i)high));
}
#else
INLINE truths nearest(lanes v) { return (truths)_mm256_cvtps_epi32((__m256)v); }

INLINE truths in_pairs(truths low, truths high)
{
    return (truths)_mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)low, (__m256i)high), 0xd8);
}
#endif

/* From squared lengths of vectors what makes them integers of 16 bits, the sums of whose products stay within 31
 * (Cauchy-Schwarz), and what undoes it: powers of two, so that whole numbers stay exact. Vectors shorter than 1e-15 become
 * zeros; those of which a number is not finite, or that are longer than 1e19, become what is not a number. */
INLINE void powers(lanes squares, lanes *up, lanes *down)
{
    lanes length = squares;
    for (int i = 0; i < LANES; i++)
        length[i] = sqrtf(squares[i]);
    const truths is_zero = squares < 1e-30f;
    const lanes power = (lanes)((truths)(32767 / length) & 0x7f800000 & ~is_zero);
    *up = power;
    *down = (lanes)((truths)(1 / power) & ~is_zero) + (squares - squares);
}

INLINE lanes load_balanced(const float *x, const float *balance, long c)
{
    return balance ? load(x + c) * load(balance + c) : load(x + c);
}

/* Rows that are summed over, as units [rows][stride / 2]; their columns times `balance`, or NULL. */
static struct factor of_rows(const number *x, int rows, long stride, const float *balance, unit *room)
{
    float *const scales = (float *)(room + rows * stride / TOGETHER);
#pragma omp parallel for num_threads(threads) if (is_worth_threads(rows * stride))
    for (int r = 0; r < rows; r++) {
        const float *const row = x + r * stride;
        lanes squares = {0}, more = {0}, up, down;
        for (long c = 0; c < stride; c += TOGETHER * LANES) {
            const lanes low = load_balanced(row, balance, c), high = load_balanced(row, balance, c + LANES);
            squares += low * low;
            more += high * high;
        }
        powers((lanes){0} + sum_of(squares + more), &up, &down);
        scales[r] = down[0];
        for (long c = 0; c < stride; c += TOGETHER * LANES) {
            const lanes low = load_balanced(row, balance, c), high = load_balanced(row, balance, c + LANES);
            const truths pairs = in_pairs(nearest(low * up), nearest(high * up));
            memcpy(room + (r * stride + c) / TOGETHER, &pairs, sizeof pairs);
        }
    }
    return (struct factor){room, stride / TOGETHER, 1, rows, scales};
}

/* Two rows of floats [rows][columns] from r on, at column c, times `by`; zeros beyond. */
INLINE void load_two(const float *x, int rows, int columns, int r, long c, const float by[2], lanes v[2])
{
    for (int i = 0; i < 2; i++)
        v[i] = load_part(x + (r + i) * (long)columns + c, r + i < rows ? columns - c : 0) * by[i];
}

/* What undoes the balance, or NULL, of two rows. */
INLINE void unbalance(const float *balance, int r, float by[2])
{
    for (int i = 0; i < 2; i++)
        by[i] = balance ? 1 / balance[r + i] : 1;
}

/* Squared lengths of columns from..end. */
INLINE void squares_of_columns(const float *x, int rows, int columns, const float *balance, long from, long end,
                               float *squares)
{
    memset(squares + from, 0, sizeof(float) * (end - from));
    for (int r = 0; r < rows; r += 4) {
        float by[4];
        unbalance(balance, r, by);
        unbalance(balance, r + 2, by + 2);
        for (long c = from; c < end; c += LANES) {
            lanes v[4];
            load_two(x, rows, columns, r, c, by, v);
            load_two(x, rows, columns, r + 2, c, by + 2, v + 2);
            store(squares + c, load(squares + c) + v[0] * v[0] + v[1] * v[1] + v[2] * v[2] + v[3] * v[3]);
        }
    }
}

/* The columns of floats [rows][columns], as units over rows [rows / 2][wide(columns)], rows divided by `balance`, or NULL;
 * an odd last row stands with zeros. */
static struct factor of_float_columns(const float *x, int rows, int columns, const float *balance, unit *room)
{
    const long stride = wide(columns), share = wide((stride + threads - 1) / threads);
    float *const scales = (float *)(room + units(rows) * stride), *const ups = scales + stride;
#pragma omp parallel for num_threads(threads) if (is_worth_threads(rows * stride))
    for (long from = 0; from < stride; from += share) {
        const long end = from + share < stride ? from + share : stride;
        squares_of_columns(x, rows, columns, balance, from, end, ups);
        for (long c = from; c < end; c += LANES) {
            lanes up, down;
            powers(load(ups + c), &up, &down);
            store(ups + c, up);
            store(scales + c, down);
        }
    }
#pragma omp parallel for num_threads(threads) if (is_worth_threads(rows * stride))
    for (int r = 0; r < rows; r += 2) {
        float by[2];
        unbalance(balance, r, by);
        for (long c = 0; c < stride; c += LANES) {
            lanes v[2];
            load_two(x, rows, columns, r, c, by, v);
            const truths pairs = (nearest(v[0] * load(ups + c)) & 0xffff) | nearest(v[1] * load(ups + c)) << 16;
            memcpy(room + r / 2 * stride + c, &pairs, sizeof pairs);
        }
    }
    return (struct factor){room, 1, stride, (int)stride, scales};
}

/* The same of rows. */
static struct factor of_columns(const number *x, int rows, long stride, unit *room)
{
    return of_float_columns(x, rows, (int)stride, 0, room);
}

/* For inputs [rows][stride] of a network, [stride]: the power of two nearest to one over the root of a column's root mean
 * square. A joint's angle stands beside forces of thousands: as integers of one scale it would be zero. So a column and its
 * weights meet halfway; but where a number is not finite, or that is the column's length, which would take all others along. */
static const float *balance_of(const number *x, int rows, long stride, float *balance)
{
    squares_of_columns(x, rows, (int)stride, 0, 0, stride, balance);
    for (long c = 0; c < stride; c += LANES) {
        const lanes squares = load(balance + c) / (float)rows;
        const truths exponent = ((((truths)squares >> 23 & 0xff) - 127 + 2) >> 2) & (squares - squares == 0);
        store(balance + c, (lanes)((127 - exponent) << 23));
    }
    return balance;
}

/* Of 2 LANES floats in a row, of which `count` are there, LANES units. */
INLINE bits units_in_a_row(const float *x, long count, float up)
{
    const truths low = nearest(load_part(x, count) * up), high = nearest(load_part(x + LANES, count - LANES) * up);
    return (bits)in_pairs(low, high);
}

/* What makes integers of LANES rows of floats, of which `rows` are there; and what undoes it. */
INLINE lanes powers_of_rows(const float *x, long rows, int columns, float *scales)
{
    lanes squares = {0}, up, down;
    for (int r = 0; r < LANES && r < rows; r++) {
        lanes sum = {0};
        for (int c = 0; c < columns; c += LANES) {
            const lanes v = load_part(x + (long)r * columns + c, columns - c);
            sum += v * v;
        }
        squares[r] = sum_of(sum);
    }
    powers(squares, &up, &down);
    store(scales, down);
    return up;
}

/* What the sums of integers are, by the scales of a row and of columns. */
INLINE lanes of_sum(total sum, const float *row, const float *columns)
{
    return __builtin_convertvector(sum, lanes) * (*row * load(columns));
}
#endif
