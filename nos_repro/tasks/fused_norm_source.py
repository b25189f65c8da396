"""The C source of `fused_norm`: max pool, ReLU and batch norm of pixels, forwards and backwards.

It is written for the compiler's vectoriser: the innermost loops run over the channels, whose number
is a constant, and read and write whole rows of them. Sums are in float32 within an image, in
float64 over the images.
"""

SOURCE = r"""
#define SQUARE (POOL * POOL)
#define EACH for (int c = 0; c < C; c++)

// A pixel's bits as a number, in the order of the pixels: from 0 upwards, below 0 for negative
// ones, and above infinity for NaN, whose sign says nothing.
static inline bits order(const pixel *x) {
    bits b;
    memcpy(&b, x, sizeof b);
    bits absolute = b & (bits)(INFINITE | (INFINITE - 1));
    return absolute > (bits)INFINITE ? absolute : b;
}

// The largest value of each channel of a square (NaN if there is one), or 0 if it is negative.
// `place` becomes the first place that has it, or SQUARE if the ReLU lets nothing through.
static inline void largest(const pixel *corner, long line, pixel *restrict most,
                           bits *restrict place) {
    bits top[C];
    EACH { top[c] = order(corner + c); place[c] = 0; }
    for (int k = 1; k < SQUARE; k++) {
        const pixel *at = corner + (k / POOL) * line + (k % POOL) * C;
        EACH {
            bits x = order(at + c);
            place[c] = x > top[c] ? (bits)k : place[c];
            top[c] = x > top[c] ? x : top[c];
        }
    }
    EACH {
        place[c] = top[c] <= 0 ? (bits)SQUARE : place[c];
        top[c] = top[c] <= 0 ? 0 : top[c];
    }
    memcpy(most, top, sizeof top);
}

// `height` and `width` are those of the pooled pixels, here and below.
void forward(const pixel *x, long images, long height, long width, float epsilon, float momentum,
             const float *weight, const float *bias, float *running_mean, float *running_variance,
             pixel *pooled, uint8_t *places, float *mean, float *scale, pixel *out) {
    long line = width * POOL * C, area = height * width;
    double count = (double)images * area, total[C] = {0}, squares[C] = {0};
    pixel *p = pooled;
    for (long n = 0; n < images; n++) {
        float sum[C] = {0};
        for (long h = 0; h < height; h++, x += POOL * line)
            for (long w = 0; w < width; w++, p += C, places += C) {
                bits place[C];
                largest(x + w * POOL * C, line, p, place);
                EACH { places[c] = (uint8_t)place[c]; sum[c] += value(p[c]); }
            }
        EACH total[c] += sum[c];
    }
    EACH mean[c] = total[c] / count;
    p = pooled;
    for (long n = 0; n < images; n++) {
        float sum[C] = {0};
        for (long i = 0; i < area; i++, p += C)
            EACH { float d = value(p[c]) - mean[c]; sum[c] += d * d; }
        EACH squares[c] += sum[c];
    }
    float factor[C], shift[C];
    EACH {
        float variance = squares[c] / count;
        scale[c] = 1 / sqrtf(variance + epsilon);
        factor[c] = scale[c] * weight[c];
        shift[c] = bias[c] - mean[c] * factor[c];
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_variance[c] += momentum * (squares[c] / (count - 1) - running_variance[c]);
    }
    p = pooled;
    for (long i = 0; i < images * area; i++, p += C, out += C)
        EACH out[c] = rounded(value(p[c]) * factor[c] + shift[c]);
}

void backward(const pixel *gradient, const pixel *pooled, const uint8_t *places, long images,
              long height, long width, const float *mean, const float *scale, const float *weight,
              pixel *of, float *of_weight, float *of_bias) {
    long line = width * POOL * C, area = height * width;
    double count = (double)images * area, total[C] = {0}, products[C] = {0};
    const pixel *g = gradient, *p = pooled;
    for (long n = 0; n < images; n++) {
        float sum[C] = {0}, product[C] = {0};
        for (long i = 0; i < area; i++, g += C, p += C)
            EACH {
                float upper = value(g[c]);
                sum[c] += upper;
                product[c] += upper * (value(p[c]) - mean[c]);
            }
        EACH { total[c] += sum[c]; products[c] += product[c]; }
    }
    // weight * scale * (g - mean(g) - normal * mean(g * normal)) as a * g + b * p + d
    float a[C], b[C], d[C];
    EACH {
        of_bias[c] = total[c];
        of_weight[c] = products[c] * scale[c];
        a[c] = weight[c] * scale[c];
        b[c] = -a[c] * scale[c] * of_weight[c] / count;
        d[c] = -a[c] * total[c] / count - b[c] * mean[c];
    }
    for (long h = 0; h < images * height; h++, of += POOL * line)
        for (long w = 0; w < width; w++, gradient += C, pooled += C, places += C) {
            pixel lower[C];
            EACH lower[c] = rounded(a[c] * value(gradient[c]) + b[c] * value(pooled[c]) + d[c]);
            for (int k = 0; k < SQUARE; k++) {
                pixel *restrict at = of + w * POOL * C + (k / POOL) * line + (k % POOL) * C;
                EACH at[c] = places[c] == k ? lower[c] : (pixel)0;
            }
        }
}

void evaluate(const pixel *x, long images, long height, long width, float epsilon,
              const float *weight, const float *bias, const float *running_mean,
              const float *running_variance, pixel *out) {
    long line = width * POOL * C;
    float factor[C], shift[C];
    EACH {
        factor[c] = weight[c] / sqrtf(running_variance[c] + epsilon);
        shift[c] = bias[c] - running_mean[c] * factor[c];
    }
    for (long h = 0; h < images * height; h++, x += POOL * line)
        for (long w = 0; w < width; w++, out += C) {
            pixel most[C];
            bits place[C];
            largest(x + w * POOL * C, line, most, place);
            EACH out[c] = rounded(value(most[c]) * factor[c] + shift[c]);
        }
}
"""
