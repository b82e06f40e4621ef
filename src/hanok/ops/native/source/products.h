// Products of a few rows with a weight, y = x W^T + b, for weights in float32, bfloat16 and int8, and of any in int4.
//
// Each number of y is one sum whose order depends on the number of inputs alone: W running sums over the inputs in
// their order (W is the width of a vector), then those sums pairwise. How many rows there are, which rows and outputs
// share a pass over the weight, and how many threads run, is only about how often memory is read.
#pragma once
#include "pool.h"
#include "vector.h"
#include <algorithm>
#include <cstdlib>
#include <vector>

enum Kind { FLOAT32, BFLOAT16, INT8, INT4 };

struct Weight {
    const void* data;    // (outputs, inputs); int4 as `Int4Linear` describes
    const void* scale;   // int8: float32 (outputs,); int4: float16 (tiles, groups, 16); else null
    const void* bias;    // (outputs,) of the rows' type, or null
    int64_t outputs, inputs;
    int32_t kind;
    int32_t brief;  // rows and y are bfloat16 rather than float32
};

constexpr int GROUP = 32, LANES = 16;  // int4: inputs that share a scale, outputs that lie together
#if defined(HANOK_AVX512)
constexpr int ROWS = 6;
#else
constexpr int ROWS = 3;
#endif
constexpr int OUTPUTS = 4, BLOCK_ROWS = 48;
constexpr int64_t FEW = 11;  // rows up to which reading the weight is what takes the time; panels.h is for more
constexpr int64_t AHEAD = 16384, SHORT = 3000;  // bytes

// Memory that a thread keeps for its next call: fresh pages cost more than what is written to them.
template <class T>
static T* scratch(int which, size_t count) {
    struct Held {
        void* at = nullptr;
        size_t bytes = 0;
        ~Held() { free(at); }
    };
    static thread_local Held held[8];
    size_t need = (count * sizeof(T) + 63) / 64 * 64 + 64;
    if (held[which].bytes < need) {
        free(held[which].at);
        held[which].at = aligned_alloc(64, need);
        held[which].bytes = need;
    }
    return static_cast<T*>(held[which].at);
}

static inline void put(const Weight& w, void* out, int64_t row, int64_t output, float value) {
    int64_t at = row * w.outputs + output;
    if (w.brief) {
        if (w.bias) value = widen(narrow(value)) + widen(((const bf16*)w.bias)[output]);
        ((bf16*)out)[at] = narrow(value);
    } else {
        ((float*)out)[at] = w.bias ? value + ((const float*)w.bias)[output] : value;
    }
}

// M rows with N outputs of a weight that lies row by row.
template <class T, int N, int M>
static inline void dot_tile(const Weight& w, const float* x, void* out, int64_t row, int64_t output) {
    const int64_t K = w.inputs, even = K / W * W;
    const T* data = (const T*)w.data + output * K;
    vec sums[N][M];
    for (int n = 0; n < N; n++)
        for (int m = 0; m < M; m++) sums[n][m] = zero();
    // N rows at once are more than the processor foresees, so the next ones are asked for: line by line in the order in
    // which they lie where rows are short (the next N would be too near), else the next N side by side.
    const bool brief = K * int64_t(sizeof(T)) < SHORT;
    const char* next = (const char*)data + (brief ? AHEAD : N * K * int64_t(sizeof(T)));
    const int64_t apart = brief ? 64 : K * int64_t(sizeof(T)), along = brief ? 64 * N : 64;
    for (int64_t k = 0; k < even; next += along) {
        for (int n = 0; n < N; n++) __builtin_prefetch(next + n * apart);
        for (int64_t end = std::min<int64_t>(even, k + 64 / int64_t(sizeof(T))); k < end; k += W) {
            vec rows[M];
            for (int m = 0; m < M; m++) rows[m] = load(x + m * K + k);
            for (int n = 0; n < N; n++) {
                vec weight = load(data + n * K + k);
                for (int m = 0; m < M; m++) sums[n][m] = fma(weight, rows[m], sums[n][m]);
            }
        }
    }
    if (even < K)
        for (int n = 0; n < N; n++) {
            vec weight = load_some(data + n * K + even, K - even);
            for (int m = 0; m < M; m++) sums[n][m] = fma(weight, load_some(x + m * K + even, K - even), sums[n][m]);
        }
    for (int n = 0; n < N; n++) {
        float scale = w.scale ? ((const float*)w.scale)[output + n] : 1.0f;
        for (int m = 0; m < M; m++) put(w, out, row + m, output + n, sum(sums[n][m]) * scale);
    }
}

template <class T, int N>
static void dot_rows(const Weight& w, const float* x, void* out, int64_t first, int64_t end, int64_t output) {
    int64_t row = first;
    for (; row + ROWS <= end; row += ROWS) dot_tile<T, N, ROWS>(w, x + row * w.inputs, out, row, output);
    for (; row + 2 <= end; row += 2) dot_tile<T, N, 2>(w, x + row * w.inputs, out, row, output);
    for (; row < end; row++) dot_tile<T, N, 1>(w, x + row * w.inputs, out, row, output);
}

template <class T>
static void dot_part(const Weight& w, const float* x, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
    int64_t output = from;
    if (end - first == 1)
        for (; output + 8 <= to; output += 8) dot_rows<T, 8>(w, x, out, first, end, output);
    for (; output + OUTPUTS <= to; output += OUTPUTS) dot_rows<T, OUTPUTS>(w, x, out, first, end, output);
    for (; output < to; output++) dot_rows<T, 1>(w, x, out, first, end, output);
}

// A row in 8 bits: groups of 32 numbers, each with a scale of its own and the sum of its whole numbers.
struct Rounded {
    int8_t* at;
    float* scale;
    int32_t* total;
};

static void round_row(const float* x, int64_t K, int8_t* at, float* scale, int32_t* total) {
    for (int64_t g = 0; g * GROUP < K; g++) {
        float given[GROUP] = {};
        memcpy(given, x + g * GROUP, size_t(std::min<int64_t>(GROUP, K - g * GROUP)) * 4);
        vec most = zero(), sound = zero();
        for (int k = 0; k < GROUP; k += W) {
            vec v = load(given + k);
            most = larger(most, larger(v, sub(zero(), v)));
            sound = fma(v, zero(), sound);  // 0, or no number where the row holds an infinity or none
        }
        float top = largest(most), unit = top > 0 ? 127.0f / top : 0.0f;
        int32_t all = 0;
        for (int k = 0; k < GROUP; k += W) {
            float rounded[W];
            store(rounded, whole(mul(load(given + k), same(unit))));
            for (int i = 0; i < W; i++) {
                int8_t q = int8_t(int(rounded[i]));
                at[g * GROUP + k + i] = q;
                all += q;
            }
        }
        scale[g] = top / 127.0f + sum(sound);
        total[g] = all;
    }
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

// Rows as float32; those that are not are copied.
static const float* wide_rows(const Weight& w, const void* given, int64_t rows, int threads) {
    if (!w.brief) return (const float*)given;
    float* wide = scratch<float>(0, size_t(rows * w.inputs));
    auto widened = [=](long s) {
        int64_t end = std::min<int64_t>(rows, (s + 1) * BLOCK_ROWS) * w.inputs;
        for (int64_t i = s * BLOCK_ROWS * w.inputs; i < end; i++) wide[i] = widen(((const bf16*)given)[i]);
    };
    in_tiles((rows + BLOCK_ROWS - 1) / BLOCK_ROWS, threads, widened);
    return wide;
}

// y (rows, outputs) of x (rows, inputs), all in one piece.
static void product(const Weight& w, const void* given, int64_t rows, void* out, int threads) {
    const int64_t K = w.inputs, groups = (K + GROUP - 1) / GROUP, padded = groups * GROUP;
    int64_t slices = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const float* x = wide_rows(w, given, rows, threads);
    Rounded rounded{};
    if (w.kind == INT4) {
        rounded = {scratch<int8_t>(1, size_t(rows * padded)), scratch<float>(2, size_t(rows * groups)),
                   scratch<int32_t>(3, size_t(rows * groups))};
        auto round = [=](long s) {
            for (int64_t r = s * BLOCK_ROWS; r < std::min<int64_t>(rows, (s + 1) * BLOCK_ROWS); r++)
                round_row(x + r * K, K, rounded.at + r * padded, rounded.scale + r * groups, rounded.total + r * groups);
        };
        in_tiles(slices, threads, round);
    }
    // Four tiles a thread: the slower of two is late by little, and each reads a long piece of the weight at a stretch.
    int64_t step = std::max<int64_t>(LANES, (w.outputs / (4 * threads) + LANES - 1) / LANES * LANES);
    int64_t columns = (w.outputs + step - 1) / step;
    auto part = [&](long tile) {
        int64_t first = tile / columns * BLOCK_ROWS, end = std::min<int64_t>(rows, first + BLOCK_ROWS);
        int64_t from = tile % columns * step, to = std::min<int64_t>(w.outputs, from + step);
        if (w.kind == FLOAT32) dot_part<float>(w, x, out, first, end, from, to);
        else if (w.kind == BFLOAT16) dot_part<bf16>(w, x, out, first, end, from, to);
        else if (w.kind == INT8) dot_part<int8_t>(w, x, out, first, end, from, to);
        else int4_part(w, rounded, out, first, end, from, to);
    };
    in_tiles(slices * columns, threads, part);
}
