// Attention of a step's tokens over paged memory: their keys and values are written where they belong, then each token
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

static inline float widened(float x) { return x; }
static inline float widened(bf16 x) { return widen(x); }
static inline float narrowed(float x, const float*) { return x; }
static inline bf16 narrowed(float x, const bf16*) { return narrow(x); }

// Tokens that follow one another in a sequence, with the query heads of one key head: rows, token by token. They read the
// same keys, which stay near while all rows have their turn; what is added in which order is that of a token alone.
constexpr int64_t ABOUT = 16, NEAR = 32;  // rows of a block, values that are read at once

template <class T>
struct Block {
    const Step& step;
    const Attention& a;
    int64_t token, tokens, head, low, count;  // keys from position `low` on, as far as the last token sees
    const T** where;
    float *q, *scores, *out;

    int64_t rows() const { return tokens * a.group; }
    int64_t last(int64_t row) const { return step.positions[token + row / a.group] - low; }
    int64_t first(int64_t row) const { return a.window ? std::max<int64_t>(0, last(row) - a.window + 1) : 0; }

    void point(const T* base, int64_t width) const {
        const int64_t* pages = step.table + step.rows[token] * step.width;
        for (int64_t s = 0, size = step.page_size; s < count;) {  // page by page: a division for each key takes longer than it
            const int64_t slot = (low + s) % size, end = std::min(count, s + size - slot);
            const T* at = base + (pages[(low + s) / size] * size + slot) * width;
            for (; s < end; s++, at += width) where[s] = at;
        }
    }
};

// Products of a query with eight keys, each the sum of W running sums.
template <class T>
static inline void eight_scores(const T* const* key, const float* q, int64_t D, float scale, float* to) {
    const int64_t even = D / W * W;
    vec sums[8];
    each<8>([&](auto i) HANOK_INLINE { sums[i] = zero(); });
    for (int64_t d = 0; d < even; d += W) {
        vec query = load(q + d);
        each<8>([&](auto i) HANOK_INLINE { sums[i] = fma(load(key[i] + d), query, sums[i]); });
    }
    if (even < D) {
        vec query = load_some(q + even, D - even);
        for (int i = 0; i < 8; i++) sums[i] = fma(load_some(key[i] + even, D - even), query, sums[i]);
    }
    float found[8];
    eight_sums(sums, found);
    for (int i = 0; i < 8; i++) to[i] = found[i] * scale;
}

template <class T>
static void score_block(const Block<T>& b) {
    const int64_t room = b.count + 8;
    for (int64_t s = 0; s < b.count; s += 8) {
        const T* key[8];
        for (int i = 0; i < 8; i++) key[i] = b.where[std::min(s + i, b.count - 1)];
        for (int64_t r = 0; r < b.rows(); r++)
            if (s <= b.last(r) && s + 8 > b.first(r)) eight_scores(key, b.q + r * b.a.D, b.a.D, b.a.scale, b.scores + r * room + s);
    }
}

// Turn a row's scores into weights, and return the sum of these.
static float weigh(const Attention& a, int64_t head, int64_t count, float* row) {
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
    return total;
}

// Add `count` values with the given weights to `sums` (E,).
template <class T>
static void add_values(const T* const* where, const float* weight, int64_t count, int64_t E, float* sums) {
    for (int64_t e = 0; e < E; e += 8 * W) {
        int64_t left = std::min<int64_t>(8 * W, E - e);
        if (left == 8 * W) {
            vec part[8];
            each<8>([&](auto i) HANOK_INLINE { part[i] = load(sums + e + i * W); });
            for (int64_t s = 0; s < count; s++) {
                const T* value = where[s] + e;
                vec share = same(weight[s]);
                each<8>([&](auto i) HANOK_INLINE { part[i] = fma(share, load(value + i * W), part[i]); });
            }
            each<8>([&](auto i) HANOK_INLINE { store(sums + e + i * W, part[i]); });
            continue;
        }
        for (; left > 0; left -= W, e += W) {
            const int64_t some = std::min<int64_t>(left, W);
            vec part = load_some(sums + e, some);
            for (int64_t s = 0; s < count; s++) {
                const T* value = where[s] + e;
                part = fma(same(weight[s]), some == W ? load(value) : load_some(value, some), part);
            }
            store_some(sums + e, part, some);
        }
    }
}

template <class T>
static void attend_block(const Step& step, const Attention& a, int64_t token, int64_t tokens, int64_t head) {
    const int64_t last = step.positions[token + tokens - 1], E = a.E;
    const int64_t low = a.window ? std::max<int64_t>(0, step.positions[token] - a.window + 1) : 0;
    const int64_t count = last - low + 1, rows = tokens * a.group, room = count + 8;
    const Block<T> b = {step, a, token, tokens, head, low, count, scratch<const T*>(4, size_t(count)),
                        scratch<float>(6, size_t(rows * a.D)), scratch<float>(5, size_t(rows * room)),
                        scratch<float>(3, size_t(rows * (E + 1)))};
    for (int64_t r = 0; r < rows; r++) {
        const T* given = (const T*)a.q + ((token + r / a.group) * a.heads * a.group + head * a.group + r % a.group) * a.D;
        for (int64_t i = 0; i < a.D; i++) b.q[r * a.D + i] = widened(given[i]);
    }
    b.point((const T*)a.keys + head * a.key_stride, a.D);
    score_block(b);
    if (!a.shared) b.point((const T*)a.values + head * a.value_stride, E);
    float* totals = b.out + rows * E;
    memset(b.out, 0, size_t(rows * E) * sizeof(float));
    for (int64_t r = 0; r < rows; r++)
        totals[r] = weigh(a, head * a.group + r % a.group, b.last(r) - b.first(r) + 1, b.scores + r * room + b.first(r));
    for (int64_t s = 0; s < count; s += NEAR)
        for (int64_t r = 0; r < rows; r++) {
            const int64_t from = std::max(s, b.first(r)), to = std::min(s + NEAR, b.last(r) + 1);
            if (from < to) add_values(b.where + from, b.scores + r * room + from, to - from, E, b.out + r * E);
        }
    for (int64_t r = 0; r < rows; r++) {
        const float unit = 1.0f / totals[r];
        T* to = (T*)a.out + ((token + r / a.group) * a.heads * a.group + head * a.group + r % a.group) * E;
        for (int64_t e = 0; e < E; e++) to[e] = narrowed(b.out[r * E + e] * unit, to);
    }
}

template <class T>
static void attend(const Step& step, const Attention& a, int threads) {
    remember<T>(step, a);
    int64_t read = 0;
    for (int64_t t = 0; t < step.tokens; t++)
        read += a.window ? std::min<int64_t>(a.window, step.positions[t] + 1) : step.positions[t] + 1;
    if (read * a.heads * a.group * (a.D + a.E) < 65536) threads = 1;
    int64_t* starts = scratch<int64_t>(7, size_t(step.tokens + 1));  // of blocks
    int64_t blocks = 0;
    const int64_t most = std::max<int64_t>(1, ABOUT / a.group);
    for (int64_t t = 0; t < step.tokens; t++) {
        const bool follows = t > 0 && step.rows[t] == step.rows[t - 1] && step.positions[t] == step.positions[t - 1] + 1;
        if (!follows || t - starts[blocks - 1] == most) starts[blocks++] = t;
    }
    starts[blocks] = step.tokens;
    in_tiles(blocks * a.heads, threads, [&](long tile) {
        const int64_t block = tile / a.heads;
        attend_block<T>(step, a, starts[block], starts[block + 1] - starts[block], tile % a.heads);
    });
}
