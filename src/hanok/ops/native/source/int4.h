// Products of any number of rows with a weight in int4: rows are rounded to 8 bits in groups of 32.
#pragma once
#include "products.h"

// Rows in 8 bits: groups of 32 numbers, each with a scale of its own and the sum of its whole numbers.
struct Rounded {
    int8_t* at;
    float* scale;
    int32_t* total;
};

// A group of a tile's weights, some time before it is read.
static inline void ask_ahead(const uint8_t* data) {
    for (int b = 0; b < 4; b++) __builtin_prefetch(data + AHEAD + b * 64);
}

// M rows with the H halves, from `part_of` on, of a tile of 16 outputs in 4 bits: whole numbers add up without rounding
// inside a group, and each group is one fused multiplication and addition.
#if defined(HANOK_AVX2)

template <int H, int M>
static inline void int4_tile(const Weight& w, const Rounded& x, void* out, int64_t row, int64_t tile, int part_of) {
    const int64_t groups = (w.inputs + GROUP - 1) / GROUP, padded = groups * GROUP;
    const uint8_t* data = (const uint8_t*)w.data + tile * groups * GROUP * LANES / 2 + part_of * 32;
    const half* scales = (const half*)w.scale + tile * groups * LANES + part_of * 8;
    const __m256i low = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
    __m256 sums[H][M];
    for (int h = 0; h < H; h++)
        for (int m = 0; m < M; m++) sums[h][m] = _mm256_setzero_ps();
    for (int64_t g = 0; g < groups; g++, data += GROUP * LANES / 2, scales += LANES) {
        __m256i part[H][M];
        if (part_of == 0) ask_ahead(data);
        for (int b = 0; b < 4; b++)
            for (int h = 0; h < H; h++) {
                __m256i both = _mm256_loadu_si256((const __m256i*)(data + b * 64 + h * 32));
                __m256i first = _mm256_and_si256(both, low);
                __m256i second = _mm256_and_si256(_mm256_srli_epi16(both, 4), low);
                for (int m = 0; m < M; m++) {
                    const int8_t* q = x.at + (row + m) * padded + g * GROUP + b * 4;
                    int32_t near, far;
                    memcpy(&near, q, 4);
                    memcpy(&far, q + 16, 4);
                    __m256i y = _mm256_maddubs_epi16(first, _mm256_set1_epi32(near));
                    __m256i z = _mm256_maddubs_epi16(second, _mm256_set1_epi32(far));
                    y = _mm256_add_epi16(y, z);  // 16 products of at most 15 * 127 fit into 16 bits
                    part[h][m] = b ? _mm256_add_epi16(part[h][m], y) : y;
                }
            }
        for (int h = 0; h < H; h++) {
            __m256 scale = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i*)(scales + h * 8)));
            for (int m = 0; m < M; m++) {
                int64_t at = (row + m) * groups + g;
                __m256i whole = _mm256_sub_epi32(_mm256_madd_epi16(part[h][m], ones), _mm256_set1_epi32(8 * x.total[at]));
                __m256 factor = _mm256_mul_ps(scale, _mm256_set1_ps(x.scale[at]));
                sums[h][m] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(whole), factor, sums[h][m]);
            }
        }
    }
    for (int h = 0; h < H; h++)
        for (int m = 0; m < M; m++) {
            float found[8];
            _mm256_storeu_ps(found, sums[h][m]);
            int64_t output = tile * LANES + (part_of + h) * 8;
            for (int64_t i = 0; i < 8 && output + i < w.outputs; i++) put(w, out, row + m, output + i, found[i]);
        }
}

#if defined(HANOK_VNNI)

template <int M>
static inline void int4_whole_tile(const Weight& w, const Rounded& x, void* out, int64_t row, int64_t tile) {
    const int64_t groups = (w.inputs + GROUP - 1) / GROUP, padded = groups * GROUP;
    const uint8_t* data = (const uint8_t*)w.data + tile * groups * GROUP * LANES / 2;
    const half* scales = (const half*)w.scale + tile * groups * LANES;
    const __m512i low = _mm512_set1_epi8(15);
    __m512 sums[M];
    for (int m = 0; m < M; m++) sums[m] = _mm512_setzero_ps();
    for (int64_t g = 0; g < groups; g++, data += GROUP * LANES / 2, scales += LANES) {
        __m512i part[M];
        ask_ahead(data);
        for (int m = 0; m < M; m++) part[m] = _mm512_set1_epi32(-8 * x.total[(row + m) * groups + g]);
        for (int b = 0; b < 4; b++) {
            __m512i both = _mm512_loadu_si512(data + b * 64);
            __m512i first = _mm512_and_si512(both, low), second = _mm512_and_si512(_mm512_srli_epi16(both, 4), low);
            for (int m = 0; m < M; m++) {
                const int8_t* q = x.at + (row + m) * padded + g * GROUP + b * 4;
                int32_t near, far;
                memcpy(&near, q, 4);
                memcpy(&far, q + 16, 4);
                part[m] = _mm512_dpbusd_epi32(part[m], first, _mm512_set1_epi32(near));
                part[m] = _mm512_dpbusd_epi32(part[m], second, _mm512_set1_epi32(far));
            }
        }
        __m512 scale = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i*)scales));
        for (int m = 0; m < M; m++) {
            __m512 factor = _mm512_mul_ps(scale, _mm512_set1_ps(x.scale[(row + m) * groups + g]));
            sums[m] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(part[m]), factor, sums[m]);
        }
    }
    for (int m = 0; m < M; m++) {
        float found[16];
        _mm512_storeu_ps(found, sums[m]);
        int64_t output = tile * LANES;
        for (int64_t i = 0; i < 16 && output + i < w.outputs; i++) put(w, out, row + m, output + i, found[i]);
    }
}

static void int4_part(const Weight& w, const Rounded& x, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
    for (int64_t tile = from / LANES; tile * LANES < to; tile++) {
        int64_t row = first;
        for (; row + 8 <= end; row += 8) int4_whole_tile<8>(w, x, out, row, tile);
        for (; row + 2 <= end; row += 2) int4_whole_tile<2>(w, x, out, row, tile);
        for (; row < end; row++) int4_whole_tile<1>(w, x, out, row, tile);
    }
}

#else

static void int4_part(const Weight& w, const Rounded& x, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
    for (int64_t tile = from / LANES; tile * LANES < to; tile++) {
        int64_t row = first;
        for (; row + 4 <= end; row += 4) {
            int4_tile<1, 4>(w, x, out, row, tile, 0);
            int4_tile<1, 4>(w, x, out, row, tile, 1);
        }
        for (; row + 2 <= end; row += 2) int4_tile<2, 2>(w, x, out, row, tile, 0);
        for (; row < end; row++) int4_tile<2, 1>(w, x, out, row, tile, 0);
    }
}

#endif
#else

static void int4_part(const Weight& w, const Rounded& x, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
    const int64_t groups = (w.inputs + GROUP - 1) / GROUP, padded = groups * GROUP;
    for (int64_t tile = from / LANES; tile * LANES < to; tile++)
        for (int64_t row = first; row < end; row++) {
            float sums[LANES] = {};
            for (int64_t g = 0; g < groups; g++) {
                const uint8_t* data = (const uint8_t*)w.data + (tile * groups + g) * GROUP * LANES / 2;
                const int8_t* q = x.at + row * padded + g * GROUP;
                int32_t part[LANES] = {};
                for (int b = 0; b < 4; b++)
                    for (int r = 0; r < LANES; r++)
                        for (int j = 0; j < 4; j++) {
                            int both = data[b * 64 + r * 4 + j];
                            part[r] += (both & 15) * q[b * 4 + j] + (both >> 4) * q[16 + b * 4 + j];
                        }
                for (int r = 0; r < LANES; r++) {
                    float scale = widen_half(((const half*)w.scale)[(tile * groups + g) * LANES + r]);
                    float factor = scale * x.scale[row * groups + g];
                    sums[r] += float(part[r] - 8 * x.total[row * groups + g]) * factor;
                }
            }
            for (int r = 0; r < LANES && tile * LANES + r < w.outputs; r++) put(w, out, row, tile * LANES + r, sums[r]);
        }
}

#endif

// y (rows, outputs) of x (rows, inputs) in float32, all in one piece.
static void int4_products(const Products& products, const float* x, int64_t rows, int threads) {
    const int64_t K = products.first().inputs, groups = (K + GROUP - 1) / GROUP, padded = groups * GROUP;
    const Rounded rounded = {scratch<int8_t>(1, size_t(rows * padded)), scratch<float>(2, size_t(rows * groups)),
                             scratch<int32_t>(3, size_t(rows * groups))};
    in_stretches(rows, K, threads, [=](int64_t first, int64_t end) {
        for (int64_t r = first; r < end; r++)
            for (int64_t g = 0; g < groups; g++) {
                int8_t* at = rounded.at + r * padded + g * GROUP;
                int32_t all = 0;
                const int64_t count = std::min<int64_t>(GROUP, K - g * GROUP);
                rounded.scale[r * groups + g] = round_to<127>(x + r * K + g * GROUP, count, GROUP, at);
                for (int k = 0; k < GROUP; k++) all += at[k];
                rounded.total[r * groups + g] = all;
            }
    });
    in_parts(products, rows, threads, [&](const Weight& w, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
        int4_part(w, rounded, out, first, end, from, to);
    });
}
