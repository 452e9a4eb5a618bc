/* Factors of a product in bfloat16 with float sums (AVX512-BF16), whose instruction multiplies pairs. */
#if defined(STACK_SUPPORTED) && defined(STACK_BFLOAT16)
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
INLINE total multiply(const unit *a, const unit *b, total sum)
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

/* Units [rows / 2][stride], for AMX filled up with zeros to whole tiles. */
static struct factor columns_in(unit *room, int rows, long stride)
{
#if defined(STACK_AMX)
    const long there = (rows + 1) / 2 * stride;
    memset(room + there, 0, sizeof(unit) * (wide(rows) / 2 * stride - there));
#else
    (void)rows;
#endif
    return (struct factor){room, 1, stride, (int)stride, 0};
}

/* The columns of numbers [rows][stride], rows even: summed over rows. */
static struct factor of_columns(const number *x, int rows, long stride, unit *room)
{
    for (int r = 0; r < rows; r += 2)
        for (long c = 0; c < stride; c += LANES)
            store_pairs(room + r / 2 * stride + c, _mm256_loadu_si256((const void *)(x + r * stride + c)),
                        _mm256_loadu_si256((const void *)(x + (r + 1) * stride + c)));
    return columns_in(room, rows, stride);
}

/* The same of floats [rows][columns]; an odd last row stands with zeros. */
static struct factor of_float_columns(const float *x, int rows, int columns, const float *balance, unit *room)
{
    (void)balance;
    const long stride = wide(columns);
#pragma omp parallel for num_threads(threads) if (is_worth_threads(rows * stride))
    for (int r = 0; r < rows; r += 2)
        for (long c = 0; c < stride; c += LANES) {
            const lanes one = load_part(x + (long)r * columns + c, columns - c);
            const lanes two = load_part(x + (r + 1L) * columns + c, r + 1 < rows ? columns - c : 0);
            store_pairs(room + r / 2 * stride + c, (__m256i)_mm512_cvtneps_pbh((__m512)one),
                        (__m256i)_mm512_cvtneps_pbh((__m512)two));
        }
    return columns_in(room, rows, stride);
}

/* Of 2 LANES floats in a row, of which `count` are there, LANES units. */
INLINE bits units_in_a_row(const float *x, long count, float up)
{
    (void)up;
    const lanes high = load_part(x + LANES, count - LANES), low = load_part(x, count);
    return (__m512i)_mm512_cvtne2ps_pbh((__m512)high, (__m512)low);
}
#endif
