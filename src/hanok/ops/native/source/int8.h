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

static void int8_few(const Weight& w, const float* x, int64_t rows, void* out, int threads) {
    const int64_t K = w.inputs, padded = (K + 2 * W - 1) / (2 * W) * (2 * W), blocks = (K + BLOCK - 1) / BLOCK;
    const Brief brief = {scratch<int16_t>(1, size_t(rows * padded)), scratch<float>(2, size_t(rows * blocks)), padded,
                         blocks};
    in_rows(rows, threads, [=](int64_t r) { round_blocks(x + r * K, K, brief.at + r * padded, brief.scale + r * blocks); });
    in_parts(rows, w.outputs, threads, [&](int64_t first, int64_t end, int64_t from, int64_t to) {
        int64_t output = from;
        if (end - first == 1)
            for (; output + 8 <= to; output += 8) int8_rows<8>(w, brief, out, first, end, output);
        for (; output + OUTPUTS <= to; output += OUTPUTS) int8_rows<OUTPUTS>(w, brief, out, first, end, output);
        for (; output < to; output++) int8_rows<1>(w, brief, out, first, end, output);
    });
}

// HIGH outputs with V vectors of rows that stand side by side, along one block of pairs of inputs.
template <int V>
__attribute__((noinline)) static void int8_panel(const int16_t* weight, const int32_t* x, const float* scale, float* sums,
                                                 int64_t pairs, bool first) {
    ints part[HIGH][V];
    each<HIGH>([&](auto n) HANOK_INLINE { each<V>([&](auto v) HANOK_INLINE { part[n][v] = no_ints(); }); });
    for (; pairs > 0; pairs--, weight += 2, x += V * W) {
        ints rows[V];
        each<V>([&](auto v) HANOK_INLINE { rows[v] = load_pairs((const int16_t*)(x + v * W)); });
        each<HIGH>([&](auto n) HANOK_INLINE {
            int32_t pair;
            memcpy(&pair, weight + n * BLOCK, 4);
            ints one = same_pair(pair);
            each<V>([&](auto v) HANOK_INLINE {
                part[n][v] = add_products(part[n][v], one, rows[v]);
                here(part[n][v]);
            });
        });
    }
    each<HIGH>([&](auto n) HANOK_INLINE {
        each<V>([&](auto v) HANOK_INLINE {
            float* at = sums + n * PANEL + v * W;
            store(at, fma(floats(part[n][v]), load(scale + v * W), first ? zero() : load(at)));
        });
    });
}

// Rows stood up: (panels, pairs of inputs, rows of the panel) and their scales (panels, blocks, PANEL).
struct Stood {
    int32_t* at;
    float* scale;
    int64_t rows, pairs, blocks;

    int64_t width(int64_t panel) const { return rows - panel * PANEL <= W ? W : PANEL; }
    const int32_t* panel(int64_t p) const { return at + p * PANEL * pairs; }
    const float* scales(int64_t p) const { return scale + p * PANEL * blocks; }
};

static void stand_up(const float* x, int64_t K, const Stood& to, int64_t p) {
    const int64_t padded = 2 * to.pairs, count = std::min<int64_t>(PANEL, to.rows - p * PANEL), width = to.width(p);
    int16_t* brief = scratch<int16_t>(1, size_t(PANEL * padded));
    float* scale = scratch<float>(2, size_t(PANEL * to.blocks));
    for (int64_t r = 0; r < count; r++)
        round_blocks(x + (p * PANEL + r) * K, K, brief + r * padded, scale + r * to.blocks);
    for (int64_t b = 0; b < to.blocks; b++)
        for (int64_t r = 0; r < PANEL; r++)
            to.scale[(p * to.blocks + b) * PANEL + r] = r < count ? scale[r * to.blocks + b] : 0.0f;
    for (int64_t r = 0; r < width; r += 8)  // pairs are moved as floats, whose bits nobody looks at
        for (int64_t k = 0; k < to.pairs; k += 8)
            turn((const float*)brief + r * to.pairs + k, to.pairs, count - r,
                 (float*)to.at + p * PANEL * to.pairs + k * width + r, width);
}

// `count` rows, from `row` on, of the outputs from `from` up to `to`; in `sums` an output's rows stand side by side.
static void put_panel(const Weight& w, void* out, const float* sums, int64_t row, int64_t count, int64_t from, int64_t to) {
    const int64_t even = w.brief || w.bias ? 0 : count / 8 * 8, whole = from + (to - from) / 8 * 8;
    for (int64_t r = 0; r < even; r += 8)
        for (int64_t o = from; o < whole; o += 8)
            turn(sums + (o - from) * PANEL + r, PANEL, 8, (float*)out + (row + r) * w.outputs + o, w.outputs);
    for (int64_t r = 0; r < count; r++)
        for (int64_t o = r < even ? whole : from; o < to; o++) put(w, out, row + r, o, sums[(o - from) * PANEL + r]);
}

// Outputs from `from` up to `to`, with panels from `first` up to `end`.
static void int8_job(const Weight& w, const Stood& x, void* out, int64_t first, int64_t end, int64_t from, int64_t to) {
    const int64_t K = w.inputs, tiles = (to - from + HIGH - 1) / HIGH, tile = HIGH * PANEL;
    int16_t* wide = scratch<int16_t>(6, size_t(tiles * HIGH * BLOCK));
    float* sums = scratch<float>(5, size_t((end - first) * tiles * tile));
    for (int64_t b = 0; b < x.blocks; b++) {
        const int64_t count = std::min<int64_t>(BLOCK, K - b * BLOCK), even = count - count % (2 * W);
        for (int64_t o = 0; o < tiles * HIGH; o++) {  // beyond the last output its numbers stand in for others
            const int8_t* data = (const int8_t*)w.data + std::min(from + o, to - 1) * K + b * BLOCK;
            for (int64_t k = 0; k < even; k += 2 * W) store_pairs(wide + o * BLOCK + k, load_pairs(data + k));
            if (even < count) store_pairs(wide + o * BLOCK + even, load_some_pairs(data + even, count - even));
        }
        for (int64_t p = first; p < end; p++) {
            const int32_t* rows = x.panel(p) + b * BLOCK / 2 * x.width(p);
            const float* scale = x.scales(p) + b * PANEL;
            for (int64_t t = 0; t < tiles; t++) {
                float* at = sums + ((p - first) * tiles + t) * tile;
                const int16_t* weight = wide + t * HIGH * BLOCK;
                if (x.width(p) == PANEL) int8_panel<BESIDE>(weight, rows, scale, at, (count + 1) / 2, b == 0);
                else int8_panel<1>(weight, rows, scale, at, (count + 1) / 2, b == 0);
            }
        }
    }
    for (int64_t p = first; p < end; p++, sums += tiles * tile) {
        for (int64_t o = from; o < to; o++) {
            vec scale = same(((const float*)w.scale)[o]);
            for (int v = 0; v < BESIDE; v++) {
                float* at = sums + (o - from) * PANEL + v * W;
                store(at, mul(load(at), scale));
            }
        }
        put_panel(w, out, sums, p * PANEL, std::min<int64_t>(x.rows - p * PANEL, PANEL), from, to);
    }
}

static void int8_many(const Weight& w, const float* x, int64_t rows, void* out, int threads) {
    const int64_t K = w.inputs, pairs = (K + 2 * W - 1) / (2 * W) * W, blocks = (K + BLOCK - 1) / BLOCK;
    const int64_t panels = (rows + PANEL - 1) / PANEL, columns = (w.outputs + BROAD - 1) / BROAD;
    const int64_t parts = (rows + PART - 1) / PART, panels_each = PART / PANEL;
    const Stood stood = {scratch<int32_t>(3, size_t(panels * PANEL * pairs)),
                         scratch<float>(4, size_t(panels * PANEL * blocks)), rows, pairs, blocks};
    in_tiles(panels, threads, [&](long p) { stand_up(x, K, stood, p); });
    in_tiles(columns * parts, threads, [&](long number) {  // the parts of the rows in turn, while the weights are near
        const int64_t first = number % parts * panels_each, from = number / parts * BROAD;
        int8_job(w, stood, out, first, std::min<int64_t>(panels, first + panels_each), from,
                 std::min<int64_t>(w.outputs, from + BROAD));
    });
}

// y (rows, outputs) of x (rows, inputs) in float32, all in one piece.
static void int8_product(const Weight& w, const float* x, int64_t rows, void* out, int threads) {
    const int64_t width = w.outputs * (w.brief ? 2 : 4);  // bytes
    if (rows <= FEW) return int8_few(w, x, rows, out, threads);
    for (int64_t first = 0; first < rows; first += ROUND)
        int8_many(w, x + first * w.inputs, std::min<int64_t>(ROUND, rows - first), (char*)out + first * width, threads);
}
