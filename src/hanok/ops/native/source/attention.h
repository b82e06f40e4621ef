// Attention of single tokens over paged memory: their keys and values are written where they belong, then each token
// and key head reads what lies before it, page by page, without gathering.
#pragma once
#include "products.h"

// The tokens of one step and where their sequences lie; the same for every layer.
struct Step {
    const int64_t *positions, *rows, *table;  // (tokens,), (tokens,), (sequences, width) pages
    int64_t tokens, width, page_size;
};

struct Attention {
    const void *q, *k, *v;  // (tokens, heads * group, D), (tokens, heads, D), (tokens, heads, E)
    void *keys, *values;    // (heads, slots, D) and E; one and the same where the value is the head of the key
    void* out;              // (tokens, heads * group, E)
    const float *bias, *sinks;  // (heads * group, span) by distance, (heads * group,); or null
    int64_t key_stride, value_stride, heads, group, D, E, span, window;  // window 0: none
    float scale, softcap;                                                // softcap 0: none
    int32_t brief, shared;
};

template <class T>
static void remember(const Step& step, const Attention& a) {
    for (int64_t t = 0; t < step.tokens; t++) {
        int64_t at = step.positions[t], page = step.table[step.rows[t] * step.width + at / step.page_size];
        int64_t slot = page * step.page_size + at % step.page_size;
        for (int64_t h = 0; h < a.heads; h++) {
            memcpy((T*)a.keys + h * a.key_stride + slot * a.D, (const T*)a.k + (t * a.heads + h) * a.D, size_t(a.D) * sizeof(T));
            if (!a.shared)
                memcpy((T*)a.values + h * a.value_stride + slot * a.E, (const T*)a.v + (t * a.heads + h) * a.E, size_t(a.E) * sizeof(T));
        }
    }
}

static inline float narrowed(float x, const float*) { return x; }
static inline bf16 narrowed(float x, const bf16*) { return narrow(x); }

// Scores (group, count) of one token's query heads with keys `first` .. `first + count - 1` of its sequence.
template <class T>
static void scores_of(const Attention& a, const T* const* where, const float* q, int64_t count, float* scores) {
    const int64_t D = a.D, even = D / W * W;
    for (int64_t s = 0; s < count; s += 8) {
        const T* key[8];
        for (int i = 0; i < 8; i++) key[i] = where[std::min(s + i, count - 1)];
        for (int64_t g = 0; g < a.group; g++) {
            vec sums[8];
            for (int i = 0; i < 8; i++) sums[i] = zero();
            for (int64_t d = 0; d < even; d += W) {
                vec query = load(q + g * D + d);
                for (int i = 0; i < 8; i++) sums[i] = fma(load(key[i] + d), query, sums[i]);
            }
            if (even < D) {
                vec query = load_some(q + g * D + even, D - even);
                for (int i = 0; i < 8; i++) sums[i] = fma(load_some(key[i] + even, D - even), query, sums[i]);
            }
            for (int i = 0; i < 8 && s + i < count; i++) scores[g * count + s + i] = sum(sums[i]) * a.scale;
        }
    }
}

// The mean of values with the given weights, for one query head.
template <class T>
static void mean_of(const T* const* where, const float* weight, int64_t count, int64_t E, float unit, T* out) {
    for (int64_t e = 0; e < E; e += 8 * W) {
        int64_t left = std::min<int64_t>(8 * W, E - e);
        int full = int(left / W);
        vec sums[8], rest = zero();
        for (int i = 0; i < 8; i++) sums[i] = zero();
        for (int64_t s = 0; s < count; s++) {
            const T* value = where[s] + e;
            vec share = same(weight[s]);
            if (full == 8) {
                for (int i = 0; i < 8; i++) sums[i] = fma(share, load(value + i * W), sums[i]);
            } else {
                for (int i = 0; i < full; i++) sums[i] = fma(share, load(value + i * W), sums[i]);
                if (left % W) rest = fma(share, load_some(value + full * W, left % W), rest);
            }
        }
        float found[9 * W];
        for (int i = 0; i < full; i++) store(found + i * W, sums[i]);
        store(found + full * W, rest);
        for (int64_t i = 0; i < left; i++) out[e + i] = narrowed(found[i] * unit, out);
    }
}

template <class T>
static void attend_one(const Step& step, const Attention& a, int64_t t, int64_t h) {
    const int64_t at = step.positions[t], first = a.window ? std::max<int64_t>(0, at - a.window + 1) : 0;
    const int64_t count = at - first + 1, *pages = step.table + step.rows[t] * step.width;
    const T** where = scratch<const T*>(4, size_t(count));
    float* scores = scratch<float>(5, size_t(a.group * count));
    float* q = scratch<float>(6, size_t(a.group * a.D));
    const T* given = (const T*)a.q + (t * a.heads + h) * a.group * a.D;
    for (int64_t i = 0; i < a.group * a.D; i++) {
        if (sizeof(T) == 4) memcpy(q + i, given + i, 4);
        else { bf16 x; memcpy(&x, given + i, 2); q[i] = widen(x); }
    }
    auto point = [&](const T* base, int64_t width) {
        for (int64_t s = 0; s < count; s++) {
            int64_t p = first + s;
            where[s] = base + (pages[p / step.page_size] * step.page_size + p % step.page_size) * width;
        }
    };
    point((const T*)a.keys + h * a.key_stride, a.D);
    scores_of(a, where, q, count, scores);
    if (!a.shared) point((const T*)a.values + h * a.value_stride, a.E);
    for (int64_t g = 0; g < a.group; g++) {
        float* row = scores + g * count;
        const int64_t head = h * a.group + g;
        if (a.softcap > 0)
            for (int64_t s = 0; s < count; s++) row[s] = a.softcap * std::tanh(row[s] / a.softcap);
        if (a.bias)
            for (int64_t s = 0; s < count; s++) row[s] += a.bias[head * a.span + count - 1 - s];
        float top = a.sinks ? a.sinks[head] : row[0];
        for (int64_t s = 0; s < count; s++) top = row[s] > top ? row[s] : top;
        vec all = zero();
        int64_t s = 0;
        for (; s + W <= count; s += W) {
            vec e = exponential(sub(load(row + s), same(top)));
            all = add(all, e);
            store(row + s, e);
        }
        float total = sum(all);
        for (; s < count; s++) total += row[s] = std::exp(row[s] - top);
        if (a.sinks) total += std::exp(a.sinks[head] - top);
        mean_of(where, row, count, a.E, 1.0f / total, (T*)a.out + (t * a.heads * a.group + head) * a.E);
    }
}

template <class T>
static void attend(const Step& step, const Attention& a, int threads) {
    remember<T>(step, a);
    int64_t read = 0;
    for (int64_t t = 0; t < step.tokens; t++)
        read += a.window ? std::min<int64_t>(a.window, step.positions[t] + 1) : step.positions[t] + 1;
    if (read * a.heads * a.group * (a.D + a.E) < 65536) threads = 1;
    auto part = [&](long tile) { attend_one<T>(step, a, tile / a.heads, tile % a.heads); };
    in_tiles(step.tokens * a.heads, threads, part);
}
