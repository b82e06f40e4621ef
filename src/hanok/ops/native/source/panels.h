// Products of many rows with a weight, y = x W^T + b, for weights in float32, bfloat16 and int8.
//
// Rows stand side by side in vectors, so that one number of the weight is multiplied with W rows by one instruction, and
// no sum has to be added up across a vector. Each number of y is a sum over stretches of DEPTH inputs, each of which is
// summed up in the order of the inputs: the rows beside it and the number of threads change nothing, but its bits are
// not those of products.h. What is read again and again lies in the first cache: a stretch of a few rows and outputs.
#pragma once
#include "products.h"

constexpr int BESIDE = 2;                       // vectors of rows in a tile
constexpr int HIGH = W == 16 ? 12 : 6;          // outputs in a tile: with their sums every register is in use
constexpr int64_t DEPTH = 384, BROAD = 96;      // inputs of a stretch, outputs of a job
constexpr int64_t PANEL = BESIDE * W, PART = 256;  // rows of a panel and of a job

// N outputs with V vectors of rows along one stretch: added to `sums` (N, V, W), or put there if it is the first.
// `ahead`: where the weights of the next tile lie, `stride` floats apart, or null.
template <int N, int V>
__attribute__((noinline)) static void panel_tile(const float* weight, int64_t stride, const float* x, float* sums,
                                                 int64_t depth, bool first, const float* ahead) {
    vec found[N][V];
    each<N>([&](auto n) HANOK_INLINE { each<V>([&](auto v) HANOK_INLINE { found[n][v] = zero(); }); });
    for (int64_t k = 0; k < depth;) {
        if (ahead)
            for (int n = 0; n < N; n++) __builtin_prefetch(ahead + n * stride + k);
        for (int64_t end = std::min<int64_t>(depth, k + 16); k < end; k++, weight++, x += V * W) {
            vec rows[V];
            each<V>([&](auto v) HANOK_INLINE { rows[v] = load(x + v * W); });
            each<N>([&](auto n) HANOK_INLINE {
                vec one = same(weight[n * stride]);
                each<V>([&](auto v) HANOK_INLINE { found[n][v] = fma(one, rows[v], found[n][v]); });
            });
        }
    }
    each<N>([&](auto n) HANOK_INLINE {
        each<V>([&](auto v) HANOK_INLINE {
            float* at = sums + (n * BESIDE + v) * W;
            store(at, first ? found[n][v] : add(load(at), found[n][v]));
        });
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

// `count` rows of x, from `at` on, stood up: (depth, width) with zeros beyond the last row.
static void stand(const float* at, int64_t stride, int64_t count, int64_t depth, int64_t width, float* to) {
    int64_t even = depth / 8 * 8;
    for (int64_t r = 0; r < width; r += 8)
        for (int64_t k = 0; k < even; k += 8) turn(at + r * stride + k, stride, count - r, to + k * width + r, width);
    for (int64_t k = even; k < depth; k++)
        for (int64_t r = 0; r < width; r++) to[k * width + r] = r < count ? at[r * stride + k] : 0.0f;
}

// The rows of one job: panels of PANEL rows, the last one narrower where one vector is enough for it.
struct Rows {
    const float* x;  // (stretches, panels, inputs, rows), stood up
    int64_t first, count;

    int64_t panels() const { return (count + PANEL - 1) / PANEL; }
    int64_t width(int64_t panel) const { return count - panel * PANEL <= W ? W : PANEL; }
    int64_t across() const { return (panels() - 1) * PANEL + width(panels() - 1); }  // numbers of all panels at one input
};

template <class T, int N>
static void panel_outputs(const Weight& w, const Rows& rows, int64_t output, int64_t k, float* sums) {
    const int64_t depth = std::min<int64_t>(DEPTH, w.inputs - k);
    const T* data = (const T*)w.data + output * w.inputs + k;
    const float* weight;
    int64_t stride = w.inputs;
    if constexpr (std::is_same<T, float>::value) {
        weight = data;
    } else {
        stride = DEPTH;
        float* wide = scratch<float>(6, HIGH * DEPTH);
        for (int n = 0; n < N; n++) {
            const T* from = data + n * w.inputs;
            int64_t even = depth / W * W;
            for (int64_t i = 0; i < even; i += W) {
                __builtin_prefetch(from + N * w.inputs + i);
                store(wide + n * DEPTH + i, load(from + i));
            }
            if (even < depth) store_some(wide + n * DEPTH + even, load_some(from + even, depth - even), depth - even);
        }
        weight = wide;
    }
    const float* x = rows.x + k * rows.across();
    for (int64_t p = 0; p < rows.panels(); p++, sums += HIGH * PANEL) {
        const float* ahead = p == 0 && std::is_same<T, float>::value ? weight + N * stride : nullptr;
        if (rows.width(p) == PANEL) panel_tile<N, BESIDE>(weight, stride, x, sums, depth, k == 0, ahead);
        else panel_tile<N, 1>(weight, stride, x, sums, depth, k == 0, ahead);
        x += depth * rows.width(p);
    }
}

// Outputs from `from` up to `to` of the rows of a job.
template <class T>
static void panel_job(const Weight& w, const Rows& rows, void* out, int64_t from, int64_t to) {
    const int64_t apart = rows.panels() * HIGH * PANEL;
    float* sums = scratch<float>(5, size_t((BROAD / HIGH + HIGH) * apart));
    auto steps = [&](auto&& each_step) {  // of HIGH outputs, then of 2 and 1
        float* at = sums;
        for (int64_t o = from; o < to; at += apart) {
            int n = o + HIGH <= to ? HIGH : o + 2 <= to ? 2 : 1;
            each_step(o, n, at);
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
        for (int64_t r = 0; r < rows.count; r++)
            for (int i = 0; i < n; i++) {
                float scale = w.scale ? ((const float*)w.scale)[o + i] : 1.0f;
                put(w, out, rows.first + r, o + i, at[r / PANEL * HIGH * PANEL + i * PANEL + r % PANEL] * scale);
            }
    });
}

// y (rows, outputs) of x (rows, inputs), all in one piece; weights in int4 go to `product`.
static void panels(const Weight& w, const void* given, int64_t rows, void* out, int threads) {
    const int64_t K = w.inputs, parts = (rows + PART - 1) / PART;
    const float* x = wide_rows(w, given, rows, threads);
    auto part = [=](int64_t number) { return Rows{nullptr, number * PART, std::min<int64_t>(PART, rows - number * PART)}; };
    float* stood = scratch<float>(4, size_t(parts * PART * K));
    const int64_t each_part = PART / PANEL;
    auto prepare = [=](long job) {
        Rows own = part(job / each_part);
        int64_t p = job % each_part, at = p * PANEL;
        if (at >= own.count) return;
        float* to = stood + own.first * K;
        for (int64_t k = 0; k < K; k += DEPTH) {
            int64_t depth = std::min<int64_t>(DEPTH, K - k);
            stand(x + (own.first + at) * K + k, K, own.count - at, depth, own.width(p), to + k * own.across() + at * depth);
        }
    };
    in_tiles(parts * each_part, threads, prepare);
    int64_t columns = (w.outputs + BROAD - 1) / BROAD;
    auto job = [=](long number) {  // the parts of the rows in turn, while the weights are near
        Rows own = part(number % parts);
        own.x = stood + own.first * K;
        int64_t from = number / parts * BROAD, to = std::min<int64_t>(w.outputs, from + BROAD);
        if (w.kind == FLOAT32) panel_job<float>(w, own, out, from, to);
        else if (w.kind == BFLOAT16) panel_job<bf16>(w, own, out, from, to);
        else panel_job<int8_t>(w, own, out, from, to);
    };
    in_tiles(columns * parts, threads, job);
}
