// Products of many rows with a weight, y = x W^T + b, for weights in float32 and bfloat16: the bits of products.h.
//
// Rows stand side by side in vectors, so that one number of the weight is multiplied with W rows by one instruction. The
// order of the additions is that of products.h: the inputs fall into W classes, k modulo W, each class is summed up in
// the order of its inputs, and then the sums of the classes pairwise. So a tile of outputs and rows is passed W times,
// once for each class. What is read again and again lies in the first cache: a stretch of a few rows and outputs.
#pragma once
#include "products.h"

constexpr int BESIDE = 2;                  // vectors of rows in a tile
constexpr int HIGH = W == 16 ? 12 : 6;     // outputs in a tile: with their sums every register is in use
constexpr int64_t DEPTH = 256, BROAD = 48;  // inputs of a stretch, outputs of a job
constexpr int64_t PANEL = BESIDE * W, PART = 128, ROUND = 1024;  // rows of a panel, of a job, and stood up at once

// N outputs with V vectors of rows along one class of a stretch, added to `sums` (N, PANEL), or to zero at the `first`.
template <int N, int V>
__attribute__((noinline)) static void panel_tile(const float* weight, int64_t stride, const float* x, float* sums,
                                                 int64_t steps, bool first, bool torn) {
    vec found[N][V];
    each<N>([&](auto n) HANOK_INLINE {
        each<V>([&](auto v) HANOK_INLINE { found[n][v] = first ? zero() : load(sums + n * PANEL + v * W); });
    });
    for (; steps > 0; steps--, weight += W, x += V * W) {
        vec rows[V];
        each<V>([&](auto v) HANOK_INLINE { rows[v] = load(x + v * W); });
        each<N>([&](auto n) HANOK_INLINE {
            vec one = same(weight[n * stride]);
            each<V>([&](auto v) HANOK_INLINE { found[n][v] = fma(one, rows[v], found[n][v]); });
        });
    }
    if (torn)  // products.h adds nothing times nothing here, which turns -0 into 0
        each<N>([&](auto n) HANOK_INLINE {
            each<V>([&](auto v) HANOK_INLINE { found[n][v] = add(found[n][v], zero()); });
        });
    each<N>([&](auto n) HANOK_INLINE {
        each<V>([&](auto v) HANOK_INLINE { store(sums + n * PANEL + v * W, found[n][v]); });
    });
}

// Eight rows, or `count` and zeros, of 8 numbers each, turned: column k lies at to + k * apart.
static inline void turn(const float* from, int64_t stride, int64_t count, float* to, int64_t apart) {
#if defined(HANOK_AVX2)
    __m256 r[8], s[8];
    for (int i = 0; i < 8; i++) r[i] = i < count ? _mm256_loadu_ps(from + i * stride) : _mm256_setzero_ps();
    for (int i = 0; i < 8; i += 2) {
        s[i] = _mm256_unpacklo_ps(r[i], r[i + 1]);
        s[i + 1] = _mm256_unpackhi_ps(r[i], r[i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            r[i + 2 * j] = _mm256_shuffle_ps(s[i + j], s[i + j + 2], 0x44);
            r[i + 2 * j + 1] = _mm256_shuffle_ps(s[i + j], s[i + j + 2], 0xee);
        }
    for (int i = 0; i < 4; i++) {
        _mm256_storeu_ps(to + i * apart, _mm256_permute2f128_ps(r[i], r[i + 4], 0x20));
        _mm256_storeu_ps(to + (i + 4) * apart, _mm256_permute2f128_ps(r[i], r[i + 4], 0x31));
    }
#else
    for (int k = 0; k < 8; k++)
        for (int i = 0; i < 8; i++) to[k * apart + i] = i < count ? from[i * stride + k] : 0.0f;
#endif
}

// `count` rows of x, from `at` on, stood up: (W classes, steps, width) with zeros beyond the last row.
static void stand(const float* at, int64_t stride, int64_t count, int64_t depth, int64_t width, float* to) {
    const int64_t even = depth / W * W, apart = (depth + W - 1) / W * width;
    for (int64_t r = 0; r < width; r += 8)
        for (int64_t k = 0; k < even; k += 8)
            turn(at + r * stride + k, stride, count - r, to + k % W * apart + k / W * width + r, apart);
    for (int64_t k = even; k < depth; k++)
        for (int64_t r = 0; r < width; r++)
            to[k % W * apart + k / W * width + r] = r < count ? at[r * stride + k] : 0.0f;
}

// The rows of one job: panels of PANEL rows, the last one narrower where one vector is enough for it.
struct Rows {
    const float* x;  // (stretches, panels, classes, steps, rows), stood up
    int64_t first, count;

    int64_t panels() const { return (count + PANEL - 1) / PANEL; }
    int64_t width(int64_t panel) const { return count - panel * PANEL <= W ? W : PANEL; }
    int64_t across() const { return (panels() - 1) * PANEL + width(panels() - 1); }  // numbers of all panels at one input
};

// N rows of a weight along a stretch, as float32; those that are not are copied. `stride`: floats from row to row.
template <class T, int N>
static const float* wide_weight(const Weight& w, const T* data, int64_t depth, int64_t& stride) {
    if constexpr (std::is_same<T, float>::value) {
        stride = w.inputs;
        return data;
    } else {
        stride = DEPTH;
        float* wide = scratch<float>(6, HIGH * DEPTH);
        const int64_t even = depth / W * W;
        for (int n = 0; n < N; n++) {
            const T* from = data + n * w.inputs;
            for (int64_t i = 0; i < even; i += W) store(wide + n * DEPTH + i, load(from + i));
            if (even < depth) store_some(wide + n * DEPTH + even, load_some(from + even, depth - even), depth - even);
        }
        return wide;
    }
}

template <class T, int N>
static void panel_outputs(const Weight& w, const Rows& rows, int64_t output, int64_t k, float* sums) {
    const int64_t depth = std::min<int64_t>(DEPTH, w.inputs - k), steps = depth / W, rest = depth % W;
    const T* data = (const T*)w.data + output * w.inputs + k;
    int64_t stride;
    const float* weight = wide_weight<T, N>(w, data, depth, stride);
    const float* x = rows.x + k * rows.across();
    for (int64_t p = 0; p < rows.panels(); p++) {
        const int64_t width = rows.width(p), apart = (steps + (rest > 0)) * width;
        for (int64_t j = 0; j < W; j++, x += apart, sums += HIGH * PANEL) {
            if (p == 0)  // the next outputs are asked for, a part in each pass
                for (int64_t i = j * 64 / int64_t(sizeof(T)); i < depth; i += W * 64 / int64_t(sizeof(T)))
                    for (int n = 0; n < N; n++) __builtin_prefetch(data + (N + n) * w.inputs + i);
            const int64_t own = steps + (j < rest);
            const bool torn = rest > 0 && j >= rest;
            if (width == PANEL) panel_tile<N, BESIDE>(weight + j, stride, x, sums, own, k == 0, torn);
            else panel_tile<N, 1>(weight + j, stride, x, sums, own, k == 0, torn);
        }
    }
}

// Outputs from `from` up to `to` of the rows of a job.
template <class T>
static void panel_job(const Weight& w, const Rows& rows, void* out, int64_t from, int64_t to) {
    const int64_t tile = HIGH * PANEL, apart = rows.panels() * W * tile;
    float* sums = scratch<float>(5, size_t((BROAD / HIGH + HIGH) * apart));
    auto steps = [&](auto&& step) {  // of HIGH outputs, then of 2 and 1
        float* at = sums;
        for (int64_t o = from; o < to; at += apart) {
            int n = o + HIGH <= to ? HIGH : o + 2 <= to ? 2 : 1;
            step(o, n, at);
            o += n;
        }
    };
    for (int64_t k = 0; k < w.inputs; k += DEPTH)
        steps([&](int64_t o, int n, float* at) {
            if (n == HIGH) panel_outputs<T, HIGH>(w, rows, o, k, at);
            else if (n == 2) panel_outputs<T, 2>(w, rows, o, k, at);
            else panel_outputs<T, 1>(w, rows, o, k, at);
        });
    steps([&](int64_t o, int n, float* at) {
        for (int64_t p = 0; p < rows.panels(); p++, at += W * tile) {
            for (int64_t half = W / 2; half; half /= 2)
                for (int64_t i = 0; i < half * tile; i += W) store(at + i, add(load(at + i), load(at + half * tile + i)));
            for (int64_t r = p * PANEL; r < std::min<int64_t>(rows.count, (p + 1) * PANEL); r++)
                for (int i = 0; i < n; i++) put(w, out, rows.first + r, o + i, at[i * PANEL + r - p * PANEL]);
        }
    });
}

// `rows` rows from `start` on.
static void panels_round(const Products& products, const float* x, int64_t start, int64_t rows, int threads) {
    const int64_t K = products.first().inputs, parts = (rows + PART - 1) / PART, panels_each = PART / PANEL;
    float* stood = scratch<float>(4, size_t(parts * PART * (K + W)));
    auto part = [=](int64_t number) {
        return Rows{stood + number * PART * (K + W), number * PART, std::min<int64_t>(PART, rows - number * PART)};
    };
    in_tiles(parts * panels_each, threads, [=](long job) {
        Rows own = part(job / panels_each);
        int64_t p = job % panels_each, at = p * PANEL;
        if (at >= own.count) return;
        for (int64_t k = 0; k < K; k += DEPTH) {
            int64_t depth = std::min<int64_t>(DEPTH, K - k), room = (depth + W - 1) / W * W;
            float* to = const_cast<float*>(own.x) + k * own.across() + at * room;
            stand(x + (start + own.first + at) * K + k, K, own.count - at, depth, own.width(p), to);
        }
    });
    in_tiles(products.columns(BROAD) * parts, threads, [&](long number) {
        const auto [i, from] = products.owner(number / parts, BROAD);  // the parts of the rows in turn, while it is near
        const Weight& w = products.weights[i];
        const int64_t to = std::min<int64_t>(w.outputs, from + BROAD);
        if (w.kind == FLOAT32) panel_job<float>(w, part(number % parts), products.row(i, start), from, to);
        else panel_job<bf16>(w, part(number % parts), products.row(i, start), from, to);
    });
}

// y (rows, outputs) of x (rows, inputs) in float32, all in one piece; not for weights in int8 and int4.
static void panels(const Products& products, const float* x, int64_t rows, int threads) {
    for (int64_t start = 0; start < rows; start += ROUND)
        panels_round(products, x, start, std::min<int64_t>(ROUND, rows - start), threads);
}
