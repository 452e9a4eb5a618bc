/* Products of two factors, A and B, and what becomes of their sums. */
#if defined(STACK_SUPPORTED)

/* What becomes of a product's sums. */
struct finish {
    const float *bias;    /* [N], added; or NULL */
    const float *others;  /* [M][stride], added; or NULL */
    int tanh;             /* that is the activation, else ReLU */
    int activated;        /* what it makes of the sums is meant */
    const number *slope_of; /* [rows][stride], activations whose slope sums are multiplied with; or NULL */
    const int *row_of;    /* [M] the rows of `slope_of` and `out` that are meant; or NULL: the same */
    float *out; /* [out_rows][out_columns] or NULL: the sums in float, */
    int out_rows, out_columns, accumulate; /* added to what is there */
    number *rows; /* [M][stride] or NULL: as numbers */
    long stride;
};

/* Unrolled, or the sums leave their registers. */
#define EACH_SUM                                                 \
    _Pragma("GCC unroll 4") for (int j = 0; j < columns; j++)    \
        _Pragma("GCC unroll 6") for (int i = 0; i < rows; i++)

INLINE void finish_tile(const struct finish *finish, lanes sum[6][TILE_COLUMNS], int m, int n, const int rows,
                        const int columns)
{
    const struct finish f = *finish; /* nothing that is written changes it */
    long row[6];
    for (int i = 0; i < rows; i++)
        row[i] = f.row_of ? f.row_of[m + i] : m + i;
    if (f.bias)
        EACH_SUM sum[i][j] += load(f.bias + n + LANES * j);
    if (f.others)
        EACH_SUM sum[i][j] += load(f.others + (m + i) * f.stride + n + LANES * j);
    if (f.activated && f.tanh)
        EACH_SUM sum[i][j] = tanh_of(sum[i][j]);
    if (f.activated && !f.tanh)
        EACH_SUM sum[i][j] = relu(sum[i][j]);
    if (f.slope_of)
        EACH_SUM
        {
            const lanes h = numbers(f.slope_of + row[i] * f.stride + n + LANES * j);
            sum[i][j] = f.tanh ? sum[i][j] * (1 - h * h) : where_not_zero(sum[i][j], h);
        }
    if (f.out)
        EACH_SUM
        {
            float *cells = f.out + row[i] * f.out_columns + n + LANES * j;
            const long count = m + i < f.out_rows ? f.out_columns - n - LANES * j : 0;
            store_part(cells, f.accumulate ? sum[i][j] + load_part(cells, count) : sum[i][j], count);
        }
    if (f.rows)
        EACH_SUM store_numbers(f.rows + (m + i) * f.stride + n + LANES * j, sum[i][j]);
}

/* Rows m.. of A by columns n.. of B, whose units begin at b. */
INLINE void tile(const struct factor *A, const struct factor *B, const unit *b, long b_step, int steps,
                 const struct finish *f, int m, int n, const int rows, const int columns)
{
    const long a_row = A->row, a_step = A->step;
    const unit *a = A->units + m * a_row;
    total totals[6][TILE_COLUMNS];
    lanes sum[6][TILE_COLUMNS];
    for (int i = 0; i < rows; i++)
        for (int j = 0; j < columns; j++)
            totals[i][j] = (total){0};
    for (int k = 0; k < steps; k++, a += a_step, b += b_step)
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                totals[i][j] = multiply(a + i * a_row, b + LANES * j, totals[i][j]);
    EACH_SUM sum[i][j] = of_sum(totals[i][j], A->scales + m + i, B->scales + n + LANES * j);
    finish_tile(f, sum, m, n, rows, columns);
}

/* Rows m..end of A by columns n.. of B. Rows of B's units are often a power of two apart and fall into the same few places
 * of the first cache: they stay there, for all rows of A, only if put together. */
INLINE void panel(const struct factor *A, const struct factor *B, int steps, int m, int end, const struct finish *f, int n,
                  const int columns)
{
    const unit *b = B->units + n;
    long b_step = B->step;
    unit together[PANEL_STEPS * LANES * TILE_COLUMNS] __attribute__((aligned(64)));
    if (steps <= PANEL_STEPS && end - m >= PANEL_ROWS) {
        for (int k = 0; k < steps; k++)
            memcpy(together + k * LANES * columns, b + k * b_step, sizeof(unit) * LANES * columns);
        b = together;
        b_step = LANES * columns;
    }
    for (; m + 6 <= end; m += 6)
        tile(A, B, b, b_step, steps, f, m, n, 6, columns);
    for (; m < end; m += 2)
        tile(A, B, b, b_step, steps, f, m, n, 2, columns);
}

#if defined(STACK_AMX)
#define BLOCK 32 /* rows and columns of sums in four tiles; further tiles hold what they are made of */
#define BLOCK_STEPS 16

/* All eight tiles: 16 rows of 64 bytes. */
static const struct {
    uint8_t palette, first_row, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
} tile_shapes = {1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

static void use_tiles(void)
{
    _tile_loadconfig(&tile_shapes);
    __asm__ volatile("" ::: "memory"); /* tiles read it, which GCC's intrinsics do not say */
}

/* Whether the sums themselves are wanted, in place. */
static int is_plain(const struct finish *f)
{
    return f->out && !f->rows && !f->row_of && !f->accumulate && !f->bias && !f->others && !f->activated && !f->slope_of;
}

static void block(const unit *a, long a_row, const unit *b, long b_step, int steps, const struct finish *f, int m,
                  int n)
{
    float sums[BLOCK][BLOCK] __attribute__((aligned(64)));
    const long a_bytes = sizeof(unit) * a_row, b_bytes = sizeof(unit) * b_step, below = 16 * a_row;
    a += m * a_row;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < steps; k += BLOCK_STEPS, a += BLOCK_STEPS, b += BLOCK_STEPS * b_step) {
        _tile_loadd(4, a, a_bytes);
        _tile_loadd(6, b, b_bytes);
        _tile_loadd(5, a + below, a_bytes);
        _tile_loadd(7, b + 16, b_bytes);
        _tile_dpbf16ps(0, 4, 6);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(1, 4, 7);
        _tile_dpbf16ps(3, 5, 7);
    }
    const int as_they_are = is_plain(f) && m + BLOCK <= f->out_rows && n + BLOCK <= f->out_columns;
    float *const out = as_they_are ? f->out + (long)m * f->out_columns + n : sums[0];
    const long out_row = as_they_are ? f->out_columns : BLOCK;
    _tile_stored(0, out, sizeof(float) * out_row);
    _tile_stored(1, out + 16, sizeof(float) * out_row);
    _tile_stored(2, out + 16 * out_row, sizeof(float) * out_row);
    _tile_stored(3, out + 16 * out_row + 16, sizeof(float) * out_row);
    if (as_they_are)
        return;
    for (int i = 0; i < BLOCK; i += 4) {
        lanes sum[6][TILE_COLUMNS];
        for (int j = 0; j < 8; j++)
            sum[j / 2][j % 2] = load(sums[i + j / 2] + LANES * (j % 2));
        finish_tile(f, sum, m + i, n, 4, 2);
    }
}

/* Rows m.. of A, in whole blocks, by all columns of B; returns the first row that is left. */
static int blocks(const struct factor *A, const struct factor *B, int steps, int m, int end, const struct finish *f)
{
    if (end - m < BLOCK || A->step != 1)
        return m;
    const int whole = m + (end - m) / BLOCK * BLOCK;
    use_tiles();
    for (int row = m; row < whole; row += BLOCK)
        for (int n = 0; n < B->rows; n += BLOCK)
            block(A->units, A->row, B->units + n, B->step, steps, f, row, n);
    _tile_release();
    return whole;
}
#else
#define BLOCK 6
static int blocks(const struct factor *A, const struct factor *B, int steps, int m, int end, const struct finish *f)
{
    (void)A, (void)B, (void)steps, (void)end, (void)f;
    return m;
}
#endif

/* A by B, over so many units: A has an even number of rows, B whole narrow tiles of them, of which each unit's lie side
 * by side. */
static void product(const struct factor A, const struct factor B, int steps, const struct finish *f)
{
    const int M = A.rows, N = B.rows, wanted = f->rows ? N : f->out_columns; /* rows are filled up, with what zeros give */
    /* In rows: threads that write parts of one row get in each other's way. */
    const int share = (M / (BLOCK * threads) + (M % (BLOCK * threads) != 0)) * BLOCK;
    const long work = (long)M * N * steps / 16; /* sixteen products reckoned as one number copied */
#pragma omp parallel for num_threads(threads) if (is_worth_threads(work))
    for (int part = 0; part < threads; part++) {
        const int end = (part + 1) * share < M ? (part + 1) * share : M;
        const int m = blocks(&A, &B, steps, part * share, end, f);
        for (int n = 0; n < wanted; n += LANES * TILE_COLUMNS)
            if (wanted - n <= LANES)
                panel(&A, &B, steps, m, end, f, n, 1);
            else if (TILE_COLUMNS > NARROW_COLUMNS && wanted - n <= WIDE)
                panel(&A, &B, steps, m, end, f, n, NARROW_COLUMNS);
            else
                panel(&A, &B, steps, m, end, f, n, TILE_COLUMNS);
    }
}
#endif
