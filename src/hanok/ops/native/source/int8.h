// Products of rows with a weight in int8, y = x W^T + b, in whole numbers: rows are rounded to 16 bits in blocks of 512.
//
// A block's products of 7 and 15 bits fit into 32 bits when they are added up, without rounding and so in any order; the
// blocks' sums are then added in their order, as floats. Rounding changes a row of normal numbers by 3e-5 of itself,
// where int8 changes the weight by 4e-3 and more. Two numbers are multiplied by each lane of an instruction, which makes
// this twice as fast as floats where there are many rows.
#pragma once
#include "panels.h"

constexpr int64_t BLOCK = 512;

// Rows in 16 bits, (rows, padded), with a scale for each block, (rows, blocks).
struct Brief {
    int16_t* at;
    float* scale;
    int64_t padded, blocks;
};

static void round_blocks(const float* x, int64_t K, int16_t* at, float* scale) {
    for (int64_t k = 0; k < K; k += BLOCK) {
        const int64_t count = std::min<int64_t>(BLOCK, K - k), room = (count + 2 * W - 1) / (2 * W) * (2 * W);
        scale[k / BLOCK] = round_to<32767>(x + k, count, room, at + k);
    }
}

// M rows with N outputs, each of which gets its own sum.
template <int N, int M>
static inline void int8_tile(const Weight& w, const Brief& x, void* out, int64_t row, int64_t output) {
    const int64_t K = w.inputs;
    const int8_t* data = (const int8_t*)w.data + output * K;
    float sums[N][M] = {};
    Ahead ahead(data, N, K);
    for (int64_t b = 0; b < x.blocks; b++) {
        ints part[N][M];
        for (int n = 0; n < N; n++)
            for (int m = 0; m < M; m++) part[n][m] = no_ints();
        const int16_t* rows = x.at + row * x.padded;
        int64_t k = b * BLOCK, end = std::min<int64_t>(K, k + BLOCK), even = end - end % (2 * W);
        auto step = [&](auto&& load_weight) HANOK_INLINE {
            ints given[M];
            for (int m = 0; m < M; m++) given[m] = load_pairs(rows + m * x.padded + k);
            for (int n = 0; n < N; n++) {
                ints weight = load_weight(data + n * K + k);
                for (int m = 0; m < M; m++) part[n][m] = add_products(part[n][m], weight, given[m]);
            }
        };
        while (k < even) {
            ahead.ask<N>();
            for (int64_t line = std::min<int64_t>(even, k + 64); k < line; k += 2 * W)
                step([](const int8_t* p) HANOK_INLINE { return load_pairs(p); });
        }
        if (k < end) step([=](const int8_t* p) HANOK_INLINE { return load_some_pairs(p, end - k); });
        for (int n = 0; n < N; n++)
            for (int m = 0; m < M; m++)
                sums[n][m] = fma(float(total(part[n][m])), x.scale[(row + m) * x.blocks + b], sums[n][m]);
    }
    for (int n = 0; n < N; n++)
        for (int m = 0; m < M; m++) put(w, out, row + m, output + n, sums[n][m] * ((const float*)w.scale)[output + n]);
}

template <int N>
static void int8_rows(const Weight& w, const Brief& x, void* out, int64_t first, int64_t end, int64_t output) {
    int64_t row = first;
    for (; row + ROWS <= end; row += ROWS) int8_tile<N, ROWS>(w, x, out, row, output);
    for (; row + 2 <= end; row += 2) int8_tile<N, 2>(w, x, out, row, output);
    for (; row < end; row++) int8_tile<N, 1>(w, x, out, row, output);
}

static void int8_few(const Products& products, const float* x, int64_t rows, int threads) {
    const int64_t K = products.first().inputs, padded = (K + 2 * W - 1) / (2 * W) * (2 * W), blocks = (K + BLOCK - 1) / BLOCK;
    const Brief brief = {scratch<int16_t>(1, size_t(rows * padded)), scratch<float>(2, size_t(rows * blocks)), padded,
                         blocks};
    in_stretches(rows, K, threads, [=](int64_t first, int64_t end) {
        for (int64_t r = first; r < end; r++) round_blocks(x + r * K, K, brief.at + r * padded, brief.scale + r * blocks);
    });
    in_parts(products, rows, threads, [&](const Weight& w, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
        int64_t output = from;
        if (end - first == 1)
            for (; output + 8 <= to; output += 8) int8_rows<8>(w, brief, out, first, end, output);
        for (; output + OUTPUTS <= to; output += OUTPUTS) int8_rows<OUTPUTS>(w, brief, out, first, end, output);
        for (; output < to; output++) int8_rows<1>(w, brief, out, first, end, output);
    });
}

// Where rows stand side by side, V vectors of them go with SUMS / V outputs: every register is in use, and the wider the
// rows, the fewer numbers of the weight are fetched for each product.
constexpr int SUMS = W == 16 ? 24 : 12;
constexpr int64_t ABREAST = 4 * W;  // rows of a whole panel

// SUMS / V outputs with V vectors of rows, along one block of pairs of inputs.
template <int V>
__attribute__((noinline)) static void int8_panel(const int16_t* weight, const int32_t* x, const float* scale, float* sums,
                                                 int64_t pairs, bool first) {
    constexpr int N = SUMS / V;
    ints part[N][V];
    each<N>([&](auto n) HANOK_INLINE { each<V>([&](auto v) HANOK_INLINE { part[n][v] = no_ints(); }); });
    for (; pairs > 0; pairs--, weight += 2, x += V * W) {
        ints rows[V];
        each<V>([&](auto v) HANOK_INLINE { rows[v] = load_pairs((const int16_t*)(x + v * W)); });
        each<N>([&](auto n) HANOK_INLINE {
            int32_t pair;
            memcpy(&pair, weight + n * BLOCK, 4);
            ints one = same_pair(pair);
            each<V>([&](auto v) HANOK_INLINE {
                part[n][v] = add_products(part[n][v], one, rows[v]);
                here(part[n][v]);
            });
        });
    }
    each<N>([&](auto n) HANOK_INLINE {
        each<V>([&](auto v) HANOK_INLINE {
            float* at = sums + n * ABREAST + v * W;
            store(at, fma(floats(part[n][v]), load(scale + v * W), first ? zero() : load(at)));
        });
    });
}

template <int V>
static void int8_panels(const int16_t* weight, const int32_t* x, const float* scale, float* sums, int64_t count,
                        int64_t outputs, bool first) {
    for (int64_t o = 0; o < outputs; o += SUMS / V)
        int8_panel<V>(weight + o * BLOCK, x, scale, sums + o * ABREAST, (count + 1) / 2, first);
}

// Rows stood up: (panels, pairs of inputs, rows of the panel) and their scales (panels, blocks, ABREAST).
struct Stood {
    int32_t* at;
    float* scale;
    int64_t rows, pairs, blocks;

    int64_t count(int64_t panel) const { return std::min<int64_t>(ABREAST, rows - panel * ABREAST); }
    int64_t vectors(int64_t panel) const { return (count(panel) + W - 1) / W; }
    const int32_t* panel(int64_t p) const { return at + p * ABREAST * pairs; }
    const float* scales(int64_t p) const { return scale + p * ABREAST * blocks; }
};

// Eight rows of a panel, from `first` on.
static void stand_up(const float* x, int64_t K, const Stood& to, int64_t p, int64_t first) {
    const int64_t padded = 2 * to.pairs, width = to.vectors(p) * W, count = std::min<int64_t>(8, to.count(p) - first);
    if (first >= width) return;
    int16_t* brief = scratch<int16_t>(1, size_t(8 * padded));
    float* scale = scratch<float>(2, size_t(8 * to.blocks));
    for (int64_t r = 0; r < count; r++)
        round_blocks(x + (p * ABREAST + first + r) * K, K, brief + r * padded, scale + r * to.blocks);
    for (int64_t b = 0; b < to.blocks; b++)
        for (int64_t r = 0; r < 8; r++)
            to.scale[(p * to.blocks + b) * ABREAST + first + r] = r < count ? scale[r * to.blocks + b] : 0.0f;
    for (int64_t k = 0; k < to.pairs; k += 8)  // pairs are moved as floats, whose bits nobody looks at
        turn((const float*)brief + k, to.pairs, count, (float*)to.at + p * ABREAST * to.pairs + k * width + first, width);
}

// `count` rows, from `row` on, of the outputs from `from` up to `to`; in `sums` an output's rows stand side by side.
static void put_panel(const Weight& w, void* out, const float* sums, int64_t row, int64_t count, int64_t from, int64_t to) {
    const int64_t even = w.brief || w.bias ? 0 : count / 8 * 8, whole = from + (to - from) / 8 * 8;
    for (int64_t r = 0; r < even; r += 8)
        for (int64_t o = from; o < whole; o += 8)
            turn(sums + (o - from) * ABREAST + r, ABREAST, 8, (float*)out + (row + r) * w.outputs + o, w.outputs);
    for (int64_t r = 0; r < count; r++)
        for (int64_t o = r < even ? whole : from; o < to; o++) put(w, out, row + r, o, sums[(o - from) * ABREAST + r]);
}

// `count` inputs of the outputs from `from` up to `to`, in 16 bits; the last stands in for those beyond it.
static void widen_weight(const Weight& w, int64_t k, int64_t count, int64_t from, int64_t to, int64_t room, int16_t* wide) {
    const int64_t even = count - count % (2 * W);
    for (int64_t o = from; o < from + room; o++, wide += BLOCK) {
        const int8_t* data = (const int8_t*)w.data + std::min(o, to - 1) * w.inputs + k;
        for (int64_t i = 0; i < even; i += 2 * W) store_pairs(wide + i, load_pairs(data + i));
        if (even < count) store_pairs(wide + even, load_some_pairs(data + even, count - even));
    }
}

// Outputs from `from` up to `to`, with panels from `first` up to `end`.
static void int8_job(const Weight& w, const Stood& x, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
    const int64_t room = (to - from + SUMS - 1) / SUMS * SUMS;  // outputs, of which every panel's are a divisor
    int16_t* wide = scratch<int16_t>(6, size_t(room * BLOCK));
    float* sums = scratch<float>(5, size_t((end - first) * room * ABREAST));
    for (int64_t b = 0; b < x.blocks; b++) {
        const int64_t count = std::min<int64_t>(BLOCK, w.inputs - b * BLOCK);
        widen_weight(w, b * BLOCK, count, from, to, room, wide);
        for (int64_t p = first; p < end; p++) {
            const int32_t* rows = x.panel(p) + b * BLOCK / 2 * x.vectors(p) * W;
            const float* scale = x.scales(p) + b * ABREAST;
            float* at = sums + (p - first) * room * ABREAST;
            switch (x.vectors(p)) {
                case 1: int8_panels<1>(wide, rows, scale, at, count, to - from, b == 0); break;
                case 2: int8_panels<2>(wide, rows, scale, at, count, to - from, b == 0); break;
                case 3: int8_panels<3>(wide, rows, scale, at, count, to - from, b == 0); break;
                default: int8_panels<4>(wide, rows, scale, at, count, to - from, b == 0);
            }
        }
    }
    for (int64_t p = first; p < end; p++, sums += room * ABREAST) {
        for (int64_t o = from; o < to; o++) {
            float* at = sums + (o - from) * ABREAST;
            vec scale = same(((const float*)w.scale)[o]);
            for (int64_t v = 0; v < x.vectors(p); v++) store(at + v * W, mul(load(at + v * W), scale));
        }
        put_panel(w, out, sums, p * ABREAST, x.count(p), from, to);
    }
}

// `rows` rows from `start` on.
static void int8_round(const Products& products, const float* x, int64_t start, int64_t rows, int threads) {
    const int64_t K = products.first().inputs, pairs = (K + 2 * W - 1) / (2 * W) * W, blocks = (K + BLOCK - 1) / BLOCK;
    const int64_t panels = (rows + ABREAST - 1) / ABREAST, parts = (rows + PART - 1) / PART, panels_each = PART / ABREAST;
    const Stood stood = {scratch<int32_t>(3, size_t(panels * ABREAST * pairs)),
                         scratch<float>(4, size_t(panels * ABREAST * blocks)), rows, pairs, blocks};
    in_tiles(panels * ABREAST / 8, threads, [&](long eight) {
        stand_up(x + start * K, K, stood, eight * 8 / ABREAST, eight * 8 % ABREAST);
    });
    in_tiles(products.columns(BROAD) * parts, threads, [&](long number) {
        const auto [i, from] = products.owner(number / parts, BROAD);  // the parts of the rows in turn, while it is near
        const int64_t first = number % parts * panels_each;
        int8_job(products.weights[i], stood, products.row(i, start), first, std::min<int64_t>(panels, first + panels_each),
                 from, std::min<int64_t>(products.weights[i].outputs, from + BROAD));
    });
}

// y (rows, outputs) of x (rows, inputs) in float32, all in one piece.
static void int8_products(const Products& products, const float* x, int64_t rows, int threads) {
    if (rows <= FEW) return int8_few(products, x, rows, threads);
    for (int64_t start = 0; start < rows; start += ROUND)
        int8_round(products, x, start, std::min<int64_t>(ROUND, rows - start), threads);
}
