/* Forward and backward pass of N multilayer perceptrons of one shape, ReLU or tanh between their layers, in the
 * numbers of numbers.c; see kernel_stack.py; and Adam. */
#if defined(STACK_SUPPORTED)

/* A row of floats as numbers, filled up with zeros. */
static void to_row(const float *x, int columns, number *out, long stride)
{
    for (long c = 0; c < stride; c += LANES)
        store_numbers(out + c, load_part(x + c, columns - c));
}

/* Sums over the batch of numbers [batch][stride]. */
static void column_sums(const number *x, int batch, long stride, int columns, float *sums)
{
    for (int c = 0; c < columns; c += WIDE) {
        lanes sum[NARROW_COLUMNS] = {0};
        for (int r = 0; r < batch; r++)
            for (int j = 0; j < NARROW_COLUMNS; j++)
                sum[j] += numbers(x + r * stride + c + j * LANES);
        for (int j = 0; j < NARROW_COLUMNS; j++)
            store_part(sums + c + j * LANES, sum[j], columns - c - j * LANES);
    }
}

/* A single output is a dot product a row: a tile would compute 63 for nothing. */
static void single_output(const number *x, int rows, long stride, const float *weight, int inputs, float bias,
                          float *out)
{
    for (int r = 0; r < rows; r++) {
        lanes sum = {0};
        for (int c = 0; c < inputs; c += LANES)
            sum += numbers(x + r * stride + c) * load_part(weight + c, inputs - c);
        out[r] = sum_of(sum) + bias;
    }
}

/* A stack at one batch size: sizes[layers + 1], batch even. */
struct stack {
    const int *sizes;
    int layers, count, batch;
    int tanh;        /* between the layers; else ReLU */
    float *vector;   /* all parameters */
    number *kept;    /* of a pass for its gradient */
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
    const struct stack s = {.sizes = sizes, .layers = layers, .count = count, .batch = batch};
    return (long)sizeof(number) * count * input_numbers(&s, layers);
}

static number *input_rows(number *kept, const struct stack *s, int n, int layer)
{
    /* The first input is the same for all networks. */
    return kept + (layer ? n : 0) * input_numbers(s, s->layers) + input_numbers(s, layer);
}

/* What is in use during a call only. It is one for all stacks, so that it stays in the cache. */
struct scratch {
    float *bias, *balance;
    unit *weight, *input, *sums, *rows_as_units;
    number *rows, *next_rows;
    int *row_of;
};

static struct scratch cut(char *memory, const struct stack *s)
{
    const long most = widest(s), batch = wide(s->batch), vectors = most > batch ? most : batch;
    struct scratch t = {.bias = (float *)memory, .balance = (float *)memory + most};
    t.weight = (unit *)(t.balance + most);
    t.input = t.weight + room_for(most * most, vectors);
    t.sums = t.input + room_for(batch * most, vectors);
    t.rows_as_units = t.sums + room_for(batch * most, vectors);
    t.rows = (number *)(t.rows_as_units + room_for(batch * most, vectors));
    t.next_rows = t.rows + s->batch * most;
    t.row_of = (int *)(t.next_rows + s->batch * most);
    return t;
}

long stack_scratch_bytes(const int *sizes, int layers, int batch)
{
    const struct stack s = {.sizes = sizes, .layers = layers, .count = 1, .batch = batch};
    return (long)(uintptr_t)(cut(0, &s).row_of + batch);
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

/* x and y side by side, as numbers [batch][wide(columns)]. */
static void join_rows(const struct inputs *in, int batch, int columns, number *out)
{
    const int x_columns = columns - in->y_columns, whole = x_columns / LANES * LANES, rest = columns - whole;
    float both[LANES + rest];
    for (int r = 0; r < batch; r++) {
        const float *const x = in->x + r * in->x_stride;
        number *const row = out + r * wide(columns);
        for (int c = 0; c < whole; c += LANES)
            store_numbers(row + c, load(x + c));
        memcpy(both, x + whole, sizeof(float) * (x_columns - whole));
        if (in->y_columns)
            memcpy(both + x_columns - whole, in->y + r * in->y_stride, sizeof(float) * in->y_columns);
        to_row(both, rest, row + whole, wide(columns) - whole);
    }
}

/* Inputs -> out [used][batch][outputs] of the first `used` networks. What a gradient needs is kept if asked for;
 * else the pass stays within memory that is in the cache. */
void stack_forward(const struct stack *s, int used, const struct inputs *in, int keep, char *memory, float *out)
{
    struct scratch scratch = cut(memory, s);
    number *const first = keep ? s->kept : (number *)scratch.input;
    const int *const sizes = s->sizes, batch = s->batch;
    join_rows(in, batch, sizes[0], first);
    const float *const balance = balance_of(first, batch, wide(sizes[0]), scratch.balance);
    for (int n = 0; n < used; n++) {
        const number *input = first;
        for (int i = 0; i < s->layers; i++) {
            const int inputs = sizes[i], outputs = sizes[i + 1], last = i + 1 == s->layers;
            struct finish f = {.bias = scratch.bias, .activated = !last, .tanh = s->tanh, .stride = wide(outputs)};
            long weight, bias;
            offsets(s, n, i, &weight, &bias);
            if (last && outputs == 1) {
                single_output(input, batch, wide(inputs), s->vector + weight, inputs, s->vector[bias], out + n * batch);
                continue;
            }
            const struct factor of_weight =
                of_float_columns(s->vector + weight, inputs, outputs, i ? 0 : balance, scratch.weight);
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
            product(of_rows(input, batch, wide(inputs), i ? 0 : balance, scratch.rows_as_units), of_weight, units(inputs), &f);
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
static void parameter_gradient(const struct scratch *scratch, const number *x, int batch, int inputs, int outputs,
                               float *weight, float *bias)
{
    struct factor of_sums = of_columns(scratch->rows, batch, wide(outputs), scratch->sums);
    if (outputs == 1) {
        /* One row and one column lie the same, and a tile of one row does less for nothing. */
        const struct finish f = {.out = weight, .out_rows = 1, .out_columns = inputs, .stride = wide(inputs)};
        of_sums.rows = 2;
        product(of_sums, of_columns(x, batch, wide(inputs), scratch->input), units(batch), &f);
    } else {
        const struct finish f = {.out = weight, .out_rows = inputs, .out_columns = outputs, .stride = wide(outputs)};
        product(turned(x, batch, inputs, wide(inputs), scratch->input), of_sums, units(batch), &f);
    }
    column_sums(scratch->rows, batch, wide(outputs), outputs, bias);
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
            to_row(above + (long)(row_of ? row_of[r] : r) * sizes[layers], sizes[layers],
                   scratch.rows + r * out_stride, out_stride);
        for (int i = layers - 1; i >= 0; i--) {
            const int inputs = sizes[i], outputs = sizes[i + 1];
            number *input = input_rows(s->kept, s, n, i), *const rows = scratch.rows;
            long weight, bias;
            offsets(s, n, i, &weight, &bias);
            if (gradient)
                parameter_gradient(&scratch, input, batch, inputs, outputs, gradient + weight, gradient + bias);
            if (i || input_gradient) {
                /* (batch x outputs) . (outputs x inputs), of the first layer only the columns that are asked for */
                const int from = i ? 0 : inputs - columns;
                struct finish f = {.stride = wide(inputs - from), .tanh = s->tanh, .row_of = row_of};
                const struct factor of_weight = of_float_rows(s->vector + weight + from * (long)outputs, inputs - from,
                                                              outputs, f.stride, scratch.weight);
                if (i) {
                    f.slope_of = input;
                    f.rows = scratch.next_rows;
                } else {
                    f.out = input_gradient;
                    f.out_rows = M;
                    f.out_columns = columns;
                    f.accumulate = 1;
                }
                product(of_rows(rows, even, wide(outputs), 0, scratch.rows_as_units), of_weight, units(outputs), &f);
                scratch.rows = scratch.next_rows, scratch.next_rows = rows;
            }
        }
    }
}

/* How outputs of the pass that was kept move with the parameters in a direction: -> out [count][batch][outputs].
 * Sums of a layer move with its weights and with its input. */
void stack_tangent(const struct stack *s, const float *direction, char *memory, float *out)
{
    struct scratch scratch = cut(memory, s);
    float *const with_weights = (float *)scratch.input; /* and .sums behind it: [batch][most] */
    const int *const sizes = s->sizes, batch = s->batch;
    for (int n = 0; n < s->count; n++)
        for (int i = 0; i < s->layers; i++) {
            const int inputs = sizes[i], outputs = sizes[i + 1], last = i + 1 == s->layers, of = (int)wide(outputs);
            const number *const input = input_rows(s->kept, s, n, i);
            number *const moved = scratch.rows;
            struct finish f = {.bias = scratch.bias, .tanh = s->tanh, .stride = of};
            long weight, bias;
            offsets(s, n, i, &weight, &bias);
            memset(scratch.bias, 0, sizeof(float) * of);
            memcpy(scratch.bias, direction + bias, sizeof(float) * outputs);
            if (last) {
                f.out = out + (long)n * batch * outputs;
                f.out_rows = batch;
                f.out_columns = outputs;
            } else {
                f.slope_of = input_rows(s->kept, s, n, i + 1);
                f.rows = scratch.next_rows;
            }
            const float *const balance = i ? 0 : balance_of(input, batch, wide(inputs), scratch.balance);
            if (i) {
                const struct finish sums = {.out = with_weights, .out_rows = batch, .out_columns = of, .stride = of};
                product(of_rows(input, batch, wide(inputs), 0, scratch.rows_as_units),
                        of_float_columns(direction + weight, inputs, outputs, 0, scratch.weight), units(inputs), &sums);
                f.others = with_weights;
            }
            product(of_rows(i ? moved : input, batch, wide(inputs), balance, scratch.rows_as_units),
                    of_float_columns((i ? s->vector : direction) + weight, inputs, outputs, balance, scratch.weight),
                    units(inputs), &f);
            scratch.rows = scratch.next_rows, scratch.next_rows = moved;
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
            lanes sum[TILE_COLUMNS];
            for (int j = 0; j < TILE_COLUMNS; j++)
                sum[j] = load_part(s->vector + bias + o + j * LANES, outputs - o - j * LANES);
            for (int c = 0; c < inputs; c++)
                for (int j = 0; j < TILE_COLUMNS; j++)
                    sum[j] += x[c] * load_part(s->vector + weight + (long)c * outputs + o + j * LANES, outputs - o - j * LANES);
            for (int j = 0; j < TILE_COLUMNS; j++) {
                const lanes activated = last ? sum[j] : s->tanh ? tanh_of(sum[j]) : relu(sum[j]);
                store_part(result + o + j * LANES, activated, outputs - o - j * LANES);
            }
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

void adam_step(const struct adam *a, float *restrict vector, const float *restrict gradient)
{
    *a->step += 1;
    const float of_mean = (float)(1 - a->beta1), of_square = (float)(1 - a->beta2), epsilon = a->epsilon;
    const float corrected_rate = (float)(a->rate / (1 - pow(a->beta1, *a->step)));
    const float correction = (float)(1 / sqrt(1 - pow(a->beta2, *a->step)));
    float *const restrict mean = a->mean, *const restrict square = a->square;
    const long size = a->size;
#pragma omp parallel for simd num_threads(threads) if (parallel : is_worth_threads(size))
    for (long i = 0; i < size; i++) {
        const float g = gradient[i];
        mean[i] += of_mean * (g - mean[i]);
        square[i] += of_square * (g * g - square[i]);
        vector[i] -= corrected_rate * mean[i] / (sqrtf(square[i]) * correction + epsilon);
    }
}
#endif
