/* Convolutions over channels-last rows that a library is slow at; compiled at first use. */

#include <stdint.h>
#include <string.h>

#define MAX_TAPS 289 /* 17 x 17 */

/* Keep a value in its register: loading it anew for each product would be the bottleneck. */
#if defined(__x86_64__) && defined(__AVX__)
#define KEEP(value) __asm__("" : "+x"(value))
#else
#define KEEP(value)
#endif

#define T float
#define NAME(x) x##_f32
#include "template.h"
#undef T
#undef NAME

#define T double
#define NAME(x) x##_f64
#include "template.h"
#undef T
#undef NAME

/* Keep of windows (cells, taps) the rows under `rows`: entries first[o] .. first[o + 1] of o. */
void window_entries(int64_t cells, int64_t taps, int64_t rows, const int64_t *windows,
                    int32_t *first, int32_t *tap, int32_t *row) {
  int32_t entries = 0;
  for (int64_t o = 0; o < cells; o++) {
    first[o] = entries;
    for (int64_t t = 0; t < taps; t++)
      if (windows[o * taps + t] < rows) {
        tap[entries] = (int32_t)t;
        row[entries++] = (int32_t)windows[o * taps + t];
      }
  }
  first[cells] = entries;
}
