/* What the updates do between the passes through networks; see elementwise.py for what and why. */

#if defined(STACK_SUPPORTED)
/* tanh(v), from exp(-2 |v|), which `squash` needs anyway; a little closer than `tanh_of`. */
INLINE lanes tanh_from(lanes small, lanes v) { return with_sign_of((1 - small) / (1 + small), v); }

/* heads [batch][2 size]: means, then logarithms of deviations; noise, action, moved [batch][size] */
void squash(const float *heads, const float *noise, long batch, long size, float low, float high, float *action,
            float *log_prob, float *moved)
{
    const float constant = (float)size * (0.5f * logf(6.2831853071795865f) + 2 * logf(2.0f));
    for (long b = 0; b < batch; b++, heads += 2 * size, noise += size, action += size, moved += size) {
        lanes sum = {0};
        for (long a = 0; a < size; a += LANES) {
            const long count = size - a;
            const lanes drawn = load_part(noise + a, count), log_std = within(load_part(heads + size + a, count), low, high);
            const lanes shift = exp_of(log_std) * drawn, u = load_part(heads + a, count) + shift;
            const lanes small = exp_of(-2 * magnitude(u)), softplus = relu(-2 * u) + log1p_of(small); /* of -2 u */
            const lanes terms = -0.5f * drawn * drawn - log_std + 2 * (u + softplus);
            sum += where(of_first(count), terms, (lanes){0});
            store_part(moved + a, shift, count);
            store_part(action + a, tanh_from(small, u), count);
        }
        log_prob[b] = sum_of(sum) - constant;
    }
}

void squash_gradient(const float *heads, const float *action, const float *moved, const float *of_action,
                     const float *log_alpha, long batch, long size, float low, float high, float *gradient)
{
    const float of_log_prob = expf(*log_alpha) / (float)batch;
    for (long b = 0; b < batch; b++)
        for (long a = 0; a < size; a++) {
            const long i = b * size + a, loc = 2 * b * size + a, log_std = loc + size;
            const float of_u = of_action[i] * (1 - action[i] * action[i]) + 2 * of_log_prob * action[i];
            const int is_free = heads[log_std] >= low && heads[log_std] <= high;
            gradient[loc] = of_u;
            gradient[log_std] = is_free ? of_u * moved[i] - of_log_prob : 0;
        }
}

/* noise may be NULL */
void noisy_tanh(const float *heads, const float *noise, long size, float scale, float most, float *action)
{
    for (long i = 0; i < size; i += LANES) {
        const lanes mean = load_part(heads + i, size - i);
        lanes tanh_of_mean = tanh_from(exp_of(-2 * magnitude(mean)), mean);
        if (noise)
            tanh_of_mean = within(tanh_of_mean + within(scale * load_part(noise + i, size - i), -most, most), -1, 1);
        store_part(action + i, tanh_of_mean, size - i);
    }
}

void tanh_gradient(const float *action, const float *of_action, long size, float *gradient)
{
    for (long i = 0; i < size; i++)
        gradient[i] = of_action[i] * (1 - action[i] * action[i]);
}

/* As in torch, what is not a number is the lowest. */
static float lowest_of(const float *values, long count, long batch, long b, long *which)
{
    float lowest = values[b];
    *which = 0;
    for (long n = 1; n < count; n++)
        if (lowest == lowest && !(values[n * batch + b] >= lowest)) {
            *which = n;
            lowest = values[n * batch + b];
        }
    return lowest;
}

/* values [count][batch] -> gradient [count][batch] of minus the mean of the lowest, which is returned */
double value_loss(const float *values, long count, long batch, float *gradient)
{
    double sum = 0;
    for (long b = 0; b < batch; b++) {
        long which;
        sum += lowest_of(values, count, batch, b, &which);
        for (long n = 0; n < count; n++)
            gradient[n * batch + b] = n == which ? -1 / (float)batch : 0;
    }
    return -sum / (double)batch;
}

/* log_prob, and with it log_alpha, may be NULL */
void bellman_target(const float *reward, long reward_stride, const float *not_terminated, long not_terminated_stride,
                    const float *values, long count, long batch, const float *log_prob, const float *log_alpha,
                    float gamma, float *target)
{
    const float alpha = log_prob ? expf(*log_alpha) : 0;
    for (long b = 0; b < batch; b++) {
        long which;
        const float value = lowest_of(values, count, batch, b, &which) - (log_prob ? alpha * log_prob[b] : 0);
        target[b] = reward[b * reward_stride] + gamma * not_terminated[b * not_terminated_stride] * value;
    }
}

double squared_error(const float *values, const float *target, long count, long batch, float *gradient)
{
    double sum = 0;
    for (long n = 0; n < count; n++)
        for (long b = 0; b < batch; b++) {
            const float error = values[n * batch + b] - target[b];
            gradient[n * batch + b] = error / (float)batch;
            sum += error * error;
        }
    return 0.5 * sum / (double)batch;
}

static double mean_of(const float *x, long size)
{
    double sum = 0;
    for (long i = 0; i < size; i++)
        sum += x[i];
    return sum / (double)size;
}

/* Returns the mean of log_prob. */
double temperature_gradient(const float *log_prob, long batch, float target_entropy, float *gradient)
{
    const double mean = mean_of(log_prob, batch);
    *gradient = -(float)(mean + target_entropy);
    return mean;
}

static double deviation_of(const float *x, long size, double mean)
{
    double sum = 0;
    for (long i = 0; i < size; i++)
        sum += (x[i] - mean) * (x[i] - mean);
    return sqrt(sum / (double)size);
}

/* mean, actions [batch][size] of a Gaussian, log_std [size] -> gradients of PPO's loss; said: the loss, the
 * estimated divergence and the share of ratios outside of the clip */
void clipped_surrogate(const float *mean, const float *log_std, const float *actions, const float *old_log_prob,
                       const float *advantages, long batch, long size, float clip, float entropy, float *of_mean,
                       float *of_log_std, double *said)
{
    double entropy_of = 0, gain = 0, divergence = 0, clipped = 0;
    const double middle = mean_of(advantages, batch), deviation = deviation_of(advantages, batch, middle) + 1e-8;
    for (long a = 0; a < size; a++) {
        entropy_of += log_std[a];
        of_log_std[a] = -entropy;
    }
    for (long b = 0; b < batch; b++, mean += size, actions += size, of_mean += size) {
        double sum = -0.5 * log(6.283185307179586) * (double)size - entropy_of;
        for (long a = 0; a < size; a++) {
            of_mean[a] = (actions[a] - mean[a]) * expf(-log_std[a]); /* for now: the deviation in units of std */
            sum += -0.5 * of_mean[a] * of_mean[a];
        }
        const double log_ratio = sum - old_log_prob[b], ratio = exp(log_ratio);
        const double advantage = (advantages[b] - middle) / deviation, free = ratio * advantage;
        const double held = (ratio < 1 - clip ? 1 - clip : ratio > 1 + clip ? 1 + clip : ratio) * advantage;
        const float of_log_prob = free <= held ? (float)(-free / (double)batch) : 0;
        gain += free <= held ? free : held;
        divergence += ratio - 1 - log_ratio;
        clipped += fabs(ratio - 1) > clip;
        for (long a = 0; a < size; a++) {
            const float z = of_mean[a];
            of_mean[a] = of_log_prob * z * expf(-log_std[a]);
            of_log_std[a] += of_log_prob * (z * z - 1);
        }
    }
    said[0] = -gain / (double)batch - entropy * entropy_of;
    said[1] = divergence / (double)batch;
    said[2] = clipped / (double)batch;
}

static float squares_of(const float *x, long size)
{
    lanes sum = {0};
    for (long i = 0; i < size; i += LANES) {
        const lanes v = load_part(x + i, size - i);
        sum += v * v;
    }
    return sum_of(sum);
}

void clip_norm(float *one, long size, float *other, long other_size, float most)
{
    const float norm = sqrtf(squares_of(one, size) + squares_of(other, other_size));
    if (!(norm > most))
        return;
    const float scale = most / norm;
    for (long i = 0; i < size; i++)
        one[i] *= scale;
    for (long i = 0; i < other_size; i++)
        other[i] *= scale;
}

void polyak(float *target, const float *source, long size, float tau)
{
    for (long i = 0; i < size; i++)
        target[i] += tau * (source[i] - target[i]);
}
#endif
