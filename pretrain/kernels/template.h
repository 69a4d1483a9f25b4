/* The kernels for one number type: T, and NAME(x) for its functions. Channels are innermost.
   VEC is 32 bytes of T; compilers split or widen it as the machine has registers. */

typedef T NAME(vec) __attribute__((vector_size(32), aligned(sizeof(T)), may_alias));
#define VT NAME(vec)
#define VEC ((int)(32 / sizeof(T)))

/* Depthwise windows over visible cells only: out[o] = bias + sum over the entries e of o,
   first[o] <= e < first[o + 1], of weight[tap[e]] * x[row[e]], channel by channel. */
#define BLOCK (4 * VEC)
void NAME(depthwise)(int64_t cells, int64_t channels, const T *x, const T *weight, const T *bias,
                     const int32_t *first, const int32_t *tap, const int32_t *row, T *out,
                     int threads) {
  const int64_t group = 64; /* cells whose weights stay in the nearest cache */
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t o0 = 0; o0 < cells; o0 += group) {
    const int64_t o1 = o0 + group < cells ? o0 + group : cells;
    int64_t c = 0;
    for (; c + BLOCK <= channels; c += BLOCK)
      for (int64_t o = o0; o < o1; o++) {
        VT a0 = {0}, a1 = {0}, a2 = {0}, a3 = {0};
        for (int32_t e = first[o]; e < first[o + 1]; e++) {
          const VT *w = (const VT *)(weight + tap[e] * channels + c);
          const VT *v = (const VT *)(x + row[e] * channels + c);
          a0 += w[0] * v[0], a1 += w[1] * v[1], a2 += w[2] * v[2], a3 += w[3] * v[3];
        }
        VT *y = (VT *)(out + o * channels + c);
        if (bias) {
          const VT *b = (const VT *)(bias + c);
          a0 += b[0], a1 += b[1], a2 += b[2], a3 += b[3];
        }
        y[0] = a0, y[1] = a1, y[2] = a2, y[3] = a3;
      }
    for (; c < channels; c++)
      for (int64_t o = o0; o < o1; o++) {
        T a = bias ? bias[c] : 0;
        for (int32_t e = first[o]; e < first[o + 1]; e++)
          a += weight[tap[e] * channels + c] * x[row[e] * channels + c];
        out[o * channels + c] = a;
      }
  }
}

/* The gradient of `depthwise` by weight (taps, channels): sum of x[row[e]] * grad[o]. */
void NAME(depthwise_weight)(int64_t cells, int64_t channels, int64_t taps, const T *x,
                            const T *grad, const int32_t *first, const int32_t *tap,
                            const int32_t *row, T *out, int threads) {
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t c = 0; c < channels; c += BLOCK) {
    const int64_t width = c + BLOCK <= channels ? BLOCK : channels - c;
    T sums[MAX_TAPS * BLOCK];
    memset(sums, 0, taps * BLOCK * sizeof(T));
    for (int64_t o = 0; o < cells; o++) {
      if (width == BLOCK) {
        const VT *g = (const VT *)(grad + o * channels + c);
        const VT g0 = g[0], g1 = g[1], g2 = g[2], g3 = g[3];
        for (int32_t e = first[o]; e < first[o + 1]; e++) {
          VT *s = (VT *)(sums + tap[e] * BLOCK);
          const VT *v = (const VT *)(x + row[e] * channels + c);
          s[0] += g0 * v[0], s[1] += g1 * v[1], s[2] += g2 * v[2], s[3] += g3 * v[3];
        }
      } else
        for (int32_t e = first[o]; e < first[o + 1]; e++)
          for (int64_t i = 0; i < width; i++)
            sums[tap[e] * BLOCK + i] += grad[o * channels + c + i] * x[row[e] * channels + c + i];
    }
    for (int64_t t = 0; t < taps; t++)
      memcpy(out + t * channels + c, sums + t * BLOCK, width * sizeof(T));
  }
}

/* The gradient by weight of a 3 x 3 convolution, stride 1, padding 1:
   out[tap][i][o] = sum over pixels p of x[p + tap][i] * grad[p][o].
   A tile of TI inputs by TO outputs stays in registers over a run of pixels. */
#define TI 4
#define TO (3 * VEC)

static inline __attribute__((always_inline)) void
NAME(tile)(const T *x, const T *grad, int64_t ci, int64_t co, int64_t rows, int64_t run,
           int64_t row_cells, int ni, int nv, T *out) {
  VT acc[TI][3];
  for (int i = 0; i < ni; i++)
    for (int v = 0; v < nv; v++) acc[i][v] = *(const VT *)(out + i * co + v * VEC);
  for (int64_t r = 0; r < rows; r++) {
    const T *xp = x + r * row_cells * ci, *gp = grad + r * row_cells * co;
    for (int64_t p = 0; p < run; p++, xp += ci, gp += co) {
      VT g[3];
      for (int v = 0; v < nv; v++) {
        g[v] = *(const VT *)(gp + v * VEC);
        KEEP(g[v]);
      }
      for (int i = 0; i < ni; i++)
        for (int v = 0; v < nv; v++) acc[i][v] += xp[i] * g[v];
    }
  }
  for (int i = 0; i < ni; i++)
    for (int v = 0; v < nv; v++) *(VT *)(out + i * co + v * VEC) = acc[i][v];
}

static void NAME(panel)(const T *x, const T *grad, int64_t ci, int64_t co, int64_t rows,
                        int64_t run, int64_t row_cells, int64_t inputs, int64_t outputs, T *out) {
  int64_t o = 0;
  for (; o + VEC <= outputs; o += (o + TO <= outputs ? TO : VEC)) {
    int64_t i = 0;
    for (; i + TI <= inputs; i += TI)
      if (o + TO <= outputs)
        NAME(tile)(x + i, grad + o, ci, co, rows, run, row_cells, TI, 3, out + i * co + o);
      else
        NAME(tile)(x + i, grad + o, ci, co, rows, run, row_cells, TI, 1, out + i * co + o);
    for (; i < inputs; i++)
      if (o + TO <= outputs)
        NAME(tile)(x + i, grad + o, ci, co, rows, run, row_cells, 1, 3, out + i * co + o);
      else
        NAME(tile)(x + i, grad + o, ci, co, rows, run, row_cells, 1, 1, out + i * co + o);
  }
  for (; o < outputs; o++)
    for (int64_t i = 0; i < inputs; i++) {
      T sum = 0;
      for (int64_t r = 0; r < rows; r++)
        for (int64_t p = 0; p < run; p++)
          sum += x[(r * row_cells + p) * ci + i] * grad[(r * row_cells + p) * co + o];
      out[i * co + o] += sum;
    }
}

void NAME(conv3x3_weight)(int64_t batch, int64_t h, int64_t w, int64_t ci, int64_t co, const T *x,
                          const T *grad, T *out, int threads) {
  const int64_t pi = 64, po = 4 * TO; /* a panel's nine taps stay in the second cache */
  const int64_t panels_i = (ci + pi - 1) / pi, panels_o = (co + po - 1) / po;
  const int64_t rows_at_once = w >= 128 ? 1 : (128 + w - 1) / w;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (int64_t panel = 0; panel < panels_i * panels_o; panel++) {
    const int64_t i = panel / panels_o * pi, o = panel % panels_o * po;
    const int64_t inputs = i + pi < ci ? pi : ci - i, outputs = o + po < co ? po : co - o;
    for (int64_t b = 0; b < batch; b++)
      for (int64_t y = 0; y < h; y += rows_at_once)
        for (int t = 0; t < 9; t++) {
          const int dy = t / 3 - 1, dx = t % 3 - 1;
          const int64_t y0 = y + dy < 0 ? -dy : y;
          int64_t y1 = y + rows_at_once < h ? y + rows_at_once : h;
          if (y1 + dy > h) y1 = h - dy;
          const int64_t x0 = dx < 0 ? 1 : 0, run = dx ? w - 1 : w;
          if (y1 <= y0 || run <= 0) continue;
          NAME(panel)(x + ((b * h + y0 + dy) * w + x0 + dx) * ci + i,
                      grad + ((b * h + y0) * w + x0) * co + o, ci, co, y1 - y0, run, w, inputs,
                      outputs, out + (t * ci + i) * co + o);
        }
  }
}

#undef TI
#undef TO
#undef BLOCK
#undef VEC
#undef VT
