// Products of a few rows with a weight, y = x W^T + b, for weights in float32 and bfloat16.
//
// Each number of y is one sum whose order depends on the number of inputs alone: W running sums over the inputs in
// their order (W is the width of a vector), then those sums pairwise. How many rows there are, which rows and outputs
// share a pass over the weight, and how many threads run, is only about how often memory is read.
#pragma once
#include "pool.h"
#include "vector.h"
#include <algorithm>
#include <cfloat>
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

// What is asked for while N rows of a weight are read, which are more than the processor foresees: line by line in the
// order in which they lie where rows are short (the next N would be too near), else the next N side by side.
struct Ahead {
    const char* next;
    int64_t apart, along;

    Ahead(const void* data, int64_t n, int64_t bytes) {  // of a row
        const bool brief = bytes < SHORT;
        next = (const char*)data + (brief ? AHEAD : n * bytes);
        apart = brief ? 64 : bytes;
        along = brief ? 64 * n : 64;
    }
    template <int N>
    void ask() {  // once for every 64 bytes of a row
        for (int n = 0; n < N; n++) __builtin_prefetch(next + n * apart);
        next += along;
    }
};

// M rows with N outputs of a weight that lies row by row.
template <class T, int N, int M>
static inline void dot_tile(const Weight& w, const float* x, void* out, int64_t row, int64_t output) {
    const int64_t K = w.inputs, even = K / W * W;
    const T* data = (const T*)w.data + output * K;
    vec sums[N][M];
    for (int n = 0; n < N; n++)
        for (int m = 0; m < M; m++) sums[n][m] = zero();
    Ahead ahead(data, N, K * int64_t(sizeof(T)));
    for (int64_t k = 0; k < even;) {
        ahead.ask<N>();
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
    for (int n = 0; n < N; n++)
        for (int m = 0; m < M; m++) put(w, out, row + m, output + n, sum(sums[n][m]));
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

// Weights that are multiplied with the same rows, each of its own outputs; of one kind and as many inputs.
struct Products {
    const Weight* weights;
    void* const* outs;
    int count;

    const Weight& first() const { return weights[0]; }

    int64_t columns(int64_t step) const {  // of `step` outputs of one weight
        int64_t all = 0;
        for (int i = 0; i < count; i++) all += (weights[i].outputs + step - 1) / step;
        return all;
    }
    std::pair<int, int64_t> owner(int64_t column, int64_t step) const {  // of a column, and its first output there
        int i = 0;
        for (int64_t here; column >= (here = (weights[i].outputs + step - 1) / step); i++) column -= here;
        return {i, column * step};
    }
    void* row(int i, int64_t number) const {  // of y
        return (char*)outs[i] + number * weights[i].outputs * (weights[i].brief ? 2 : 4);
    }
};

// part(weight, out, first row, end, first output, end) for all, divided among threads. Four tiles a thread: the slower of
// two is late by little, and each reads a long piece of the weights at a stretch.
template <class Part>
static void in_parts(const Products& products, int64_t rows, int threads, Part&& part) {
    int64_t outputs = 0;
    for (int i = 0; i < products.count; i++) outputs += products.weights[i].outputs;
    const int64_t slices = (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
    const int64_t step = std::max<int64_t>(LANES, (outputs / (4 * threads) + LANES - 1) / LANES * LANES);
    const int64_t columns = products.columns(step);
    in_tiles(slices * columns, threads, [&](long number) {
        const int64_t first = number / columns * BLOCK_ROWS;
        const auto [i, from] = products.owner(number % columns, step);
        const Weight& w = products.weights[i];
        part(w, products.outs[i], first, std::min<int64_t>(rows, first + BLOCK_ROWS), from,
             std::min<int64_t>(w.outputs, from + step));
    });
}

// Rows as float32; those that are not are copied.
static const float* wide_rows(const Weight& w, const void* given, int64_t rows, int threads) {
    if (!w.brief) return (const float*)given;
    const int64_t K = w.inputs;
    float* wide = scratch<float>(0, size_t(rows * K));
    in_stretches(rows, K, threads, [=](int64_t first, int64_t end) {
        for (int64_t i = first * K; i < end * K; i++) wide[i] = widen(((const bf16*)given)[i]);
    });
    return wide;
}

// y (rows, outputs) of x (rows, inputs) in float32, all in one piece; not for weights in int8 and int4.
static void dots(const Products& products, const float* x, int64_t rows, int threads) {
    in_parts(products, rows, threads,
             [&](const Weight& w, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
                 if (w.kind == FLOAT32) dot_part<float>(w, x, out, first, end, from, to);
                 else dot_part<bf16>(w, x, out, first, end, from, to);
             });
}

// `count` numbers as whole ones of at most MOST, and zeros up to `room`, a multiple of W; returns what one stands for,
// which is no number where one of the given is none, or infinite.
template <int MOST, class Q>
static float round_to(const float* x, int64_t count, int64_t room, Q* to) {
    auto at = [=](int64_t k) { return k + W <= count ? load(x + k) : k < count ? load_some(x + k, count - k) : zero(); };
    vec most = zero(), sound = zero();
    for (int64_t k = 0; k < count; k += W) {
        vec v = at(k);
        most = larger(most, larger(v, sub(zero(), v)));
        sound = fma(v, zero(), sound);  // 0, or no number
    }
    const float top = largest(most), unit = top > float(MOST) / FLT_MAX ? float(MOST) / top : 0.0f;  // never infinite
    for (int64_t k = 0; k < room; k += W) {
        store_whole(to + k, mul(at(k), same(unit)));
    }
    return top / float(MOST) + sum(sound);
}
