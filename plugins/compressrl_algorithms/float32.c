/* Factors of a product in float; and, of those in bfloat16 too, what integers have scales for. */
#if defined(STACK_SUPPORTED) && !defined(STACK_INT16)
/* Rows that are summed over are units already. */
static struct factor of_rows(const number *x, int rows, long stride, const float *balance, unit *room)
{
    (void)balance, (void)room;
    return (struct factor){(const unit *)x, stride / TOGETHER, 1, rows, 0};
}

/* Nothing has to be scaled. */
static const float *balance_of(const number *x, int rows, long stride, float *balance)
{
    (void)x, (void)rows, (void)stride, (void)balance;
    return 0;
}

INLINE lanes powers_of_rows(const float *x, long rows, int columns, float *scales)
{
    (void)x, (void)rows, (void)columns, (void)scales;
    return (lanes){0};
}

INLINE lanes of_sum(total sum, const float *row, const float *columns)
{
    (void)row, (void)columns;
    return sum;
}

#if !defined(STACK_BFLOAT16)
INLINE lanes numbers(const number *x) { return load(x); }

INLINE void store_numbers(number *x, lanes v) { store(x, v); }

INLINE total multiply(const unit *a, const unit *b, total sum) { return sum + *a * load(b); }

static struct factor of_columns(const number *x, int rows, long stride, unit *room)
{
    (void)rows, (void)room;
    return (struct factor){x, 1, stride, (int)stride, 0};
}

static struct factor of_float_columns(const float *x, int rows, int columns, const float *balance, unit *room)
{
    (void)balance;
    const long stride = wide(columns);
    if (stride == columns)
        return (struct factor){x, 1, stride, columns, 0};
#pragma omp parallel for num_threads(threads) if (is_worth_threads(rows * stride))
    for (int r = 0; r < rows; r++)
        for (long c = 0; c < stride; c += LANES)
            store(room + r * stride + c, load_part(x + (long)r * columns + c, columns - c));
    return (struct factor){room, 1, stride, (int)stride, 0};
}

INLINE bits units_in_a_row(const float *x, long count, float up)
{
    (void)up;
    return (bits)load_part(x, count);
}
#endif
#endif
