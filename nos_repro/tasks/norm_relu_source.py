"""The C source of `norm_relu`: batch norm and ReLU of pixels, forwards and backwards.

As in `fused_norm_source`: the innermost loops run over the channels, whose number is a constant.
"""

SOURCE = r"""
#define EACH for (int c = 0; c < C; c++)

// Of all pixels [images, area, C]: each image is read once from memory, and its mean and sum of
// squares about it are merged with those of the images before (Chan, Golub, LeVeque 1983).
static void moments(const pixel *x, long images, long area, double *mean, double *squares) {
    EACH mean[c] = squares[c] = 0;
    for (long n = 0; n < images; n++, x += area * C) {
        float sum[C] = {0}, square[C] = {0}, own[C];
        for (long i = 0; i < area; i++)
            EACH sum[c] += value(x[i * C + c]);
        EACH own[c] = sum[c] / area;
        for (long i = 0; i < area; i++)
            EACH { float d = value(x[i * C + c]) - own[c]; square[c] += d * d; }
        EACH {
            double step = own[c] - mean[c];
            mean[c] += step / (n + 1);
            squares[c] += square[c] + step * step * area * n / (n + 1);
        }
    }
}

static inline void line(const float *weight, const float *bias, const float *mean,
                        const float *scale, float *factor, float *shift) {
    EACH {
        factor[c] = scale[c] * weight[c];
        shift[c] = bias[c] - mean[c] * factor[c];
    }
}

static inline float positive(float x) { return x < 0 ? 0 : x; }  // NaN stays NaN

static void apply(const pixel *x, long pixels, const float *factor, const float *shift,
                  pixel *restrict out) {
    for (long i = 0; i < pixels; i++, x += C, out += C)
        EACH out[c] = rounded(positive(value(x[c]) * factor[c] + shift[c]));
}

void forward(const pixel *x, long images, long area, float epsilon, float momentum,
             const float *weight, const float *bias, float *running_mean, float *running_variance,
             float *mean, float *scale, pixel *out) {
    double count = (double)images * area, middle[C], squares[C];
    float factor[C], shift[C];
    moments(x, images, area, middle, squares);
    EACH {
        mean[c] = middle[c];
        scale[c] = 1 / sqrtf((float)(squares[c] / count) + epsilon);
        running_mean[c] += momentum * (mean[c] - running_mean[c]);
        running_variance[c] += momentum * (squares[c] / (count - 1) - running_variance[c]);
    }
    line(weight, bias, mean, scale, factor, shift);
    apply(x, images * area, factor, shift, out);
}

void backward(const pixel *gradient, const pixel *x, long images, long area, const float *mean,
              const float *scale, const float *weight, const float *bias, pixel *of,
              float *of_weight, float *of_bias) {
    double count = (double)images * area, total[C] = {0}, products[C] = {0};
    float factor[C], shift[C];
    line(weight, bias, mean, scale, factor, shift);
    const pixel *g = gradient, *p = x;
    for (long n = 0; n < images; n++) {
        float sum[C] = {0}, product[C] = {0};
        for (long i = 0; i < area; i++, g += C, p += C)
            EACH {
                float at = value(p[c]), upper = value(g[c]);
                upper = at * factor[c] + shift[c] <= 0 ? 0 : upper;
                sum[c] += upper;
                product[c] += upper * (at - mean[c]);
            }
        EACH { total[c] += sum[c]; products[c] += product[c]; }
    }
    // weight * scale * (g - mean(g) - normal * mean(g * normal)) as factor * g + b * x + d
    float b[C], d[C];
    EACH {
        of_bias[c] = total[c];
        of_weight[c] = products[c] * scale[c];
        b[c] = -factor[c] * scale[c] * of_weight[c] / count;
        d[c] = -factor[c] * total[c] / count - b[c] * mean[c];
    }
    for (long i = 0; i < images * area; i++, x += C, gradient += C, of += C)
        EACH {
            float at = value(x[c]), upper = value(gradient[c]);
            upper = at * factor[c] + shift[c] <= 0 ? 0 : upper;
            of[c] = rounded(factor[c] * upper + b[c] * at + d[c]);
        }
}

void evaluate(const pixel *x, long images, long area, float epsilon, const float *weight,
              const float *bias, const float *running_mean, const float *running_variance,
              pixel *out) {
    float scale[C], factor[C], shift[C];
    EACH scale[c] = 1 / sqrtf(running_variance[c] + epsilon);
    line(weight, bias, running_mean, scale, factor, shift);
    apply(x, images * area, factor, shift, out);
}
"""
