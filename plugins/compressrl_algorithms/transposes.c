/* Factors whose rows lie across those that are kept. */
#if defined(STACK_SUPPORTED)
#if LANES == 16
/* 16 x 16 in registers: pairs of rows, then pairs of those, are interleaved; then quarters change places. */
static void transpose_block(bits x[LANES])
{
    bits y[LANES];
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
#elif LANES == 8
/* 8 x 8 in registers, likewise, and halves change places. */
static void transpose_block(bits x[LANES])
{
    __m256 y[LANES];
    for (int i = 0; i < LANES; i += 2) {
        y[i] = _mm256_unpacklo_ps((__m256)x[i], (__m256)x[i + 1]);
        y[i + 1] = _mm256_unpackhi_ps((__m256)x[i], (__m256)x[i + 1]);
    }
    for (int i = 0; i < LANES; i += 4)
        for (int j = 0; j < 2; j++) {
            x[i + 2 * j] = (bits)_mm256_shuffle_ps(y[i + j], y[i + j + 2], 0x44);
            x[i + 2 * j + 1] = (bits)_mm256_shuffle_ps(y[i + j], y[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        const bits low = x[i];
        x[i] = (bits)_mm256_permute2f128_ps((__m256)low, (__m256)x[i + 4], 0x20);
        x[i + 4] = (bits)_mm256_permute2f128_ps((__m256)low, (__m256)x[i + 4], 0x31);
    }
}
#else
static void transpose_block(bits x[LANES])
{
    bits y[LANES];
    for (int i = 0; i < LANES; i++)
        for (int j = 0; j < LANES; j++)
            y[j][i] = x[i][j];
    memcpy(x, y, sizeof y);
}
#endif

/* The first `columns` columns of numbers [rows][stride] as a first factor, summed over rows, which are even. */
#if defined(STACK_AMX)
static struct factor turned(const number *x, int rows, int columns, long stride, unit *room)
{
    const long row = wide(rows) / TOGETHER;
    for (long r = 0; r < rows; r += TOGETHER * LANES)
        for (long c = 0; c < stride; c += LANES) {
            bits block[LANES] = {0};
            for (int i = 0; i < LANES && r + 2 * i < rows; i++) {
                const number *pair = x + (r + 2 * i) * stride + c;
                store_pairs((unit *)(block + i), _mm256_loadu_si256((const void *)pair),
                            _mm256_loadu_si256((const void *)(pair + stride)));
            }
            transpose_block(block);
            for (int i = 0; i < LANES; i++)
                _mm512_storeu_si512(room + (c + i) * row + r / TOGETHER, block[i]);
        }
    return (struct factor){room, row, 1, (int)wide(columns), 0};
}
#else
static struct factor turned(const number *x, int rows, int columns, long stride, unit *room)
{
    struct factor first = of_columns(x, rows, stride, room);
    first.rows = columns + columns % 2;
    return first;
}
#endif

/* Rows of floats [rows][columns], summed over columns, as units [wide(columns) / TOGETHER][stride], filled up with zeros. */
static struct factor of_float_rows(const float *x, int rows, int columns, long stride, unit *room)
{
    float *const scales = (float *)(room + wide(columns) / TOGETHER * stride);
#pragma omp parallel for num_threads(threads) if (is_worth_threads(stride * columns))
    for (long r = 0; r < stride; r += LANES) {
        const lanes up = powers_of_rows(x + r * columns, rows - r, columns, scales + r);
        for (long c = 0; c < wide(columns); c += TOGETHER * LANES) {
            bits block[LANES];
            for (int i = 0; i < LANES; i++)
                block[i] = units_in_a_row(x + (r + i) * columns + c, r + i < rows ? columns - c : 0, up[i]);
            transpose_block(block);
            for (int i = 0; i < LANES; i++)
                memcpy(room + (c / TOGETHER + i) * stride + r, block + i, sizeof block[i]);
        }
    }
    return (struct factor){room, 1, stride, (int)stride, scales};
}
#endif
