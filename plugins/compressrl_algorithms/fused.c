/* What follows on one another in an update without anything to decide between, as one call: between two calls
 * Python runs, with caches that the pass has emptied. */
#if defined(STACK_SUPPORTED)
/* One step down, from the gradient of the outputs of the pass that was kept. */
void stack_descend(const struct stack *s, const struct adam *a, const float *out_gradient, char *memory)
{
    stack_backward(s, s->count, out_gradient, memory, s->gradient, 0, 0);
    adam_step(a, s->vector, s->gradient);
}

/* One step down half the squared error of single outputs, mean over the batch, summed over the networks; returns
 * that (before). */
double stack_regress(const struct stack *s, const struct adam *a, const struct inputs *in, const float *target,
                     char *memory)
{
    stack_forward(s, s->count, in, 1, memory, s->values);
    const double loss = squared_error(s->values, target, s->count, s->batch, s->values);
    stack_descend(s, a, s->values, memory);
    return loss;
}

/* Minus the mean of the lowest single output of the first `used` networks; of_y [batch][y_columns]: its gradient. */
double stack_value_loss(const struct stack *s, int used, const struct inputs *in, char *memory, float *of_y)
{
    stack_forward(s, used, in, 1, memory, s->values);
    const double loss = value_loss(s->values, used, s->batch, s->values);
    stack_backward(s, used, s->values, memory, 0, of_y, in->y_columns);
    return loss;
}
#endif
