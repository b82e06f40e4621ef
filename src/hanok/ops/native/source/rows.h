// What a layer does to each row between its products: the norm, the rotation of queries and keys, the gate.
#pragma once
#include "pool.h"
#include "vector.h"

constexpr int64_t LINE = 1024;  // numbers of a vector without rows that are dealt with at a time

static void rms_row(const float* x, const float* gain, float offset, float eps, int64_t dim, float* out) {
    vec squares = zero();
    int64_t i = 0, even = dim / W * W;
    for (; i < even; i += W) squares = fma(load(x + i), load(x + i), squares);
    if (even < dim) squares = fma(load_some(x + even, dim - even), load_some(x + even, dim - even), squares);
    float unit = 1.0f / std::sqrt(sum(squares) / float(dim) + eps);
    for (i = 0; i < dim; i++) out[i] = gain ? x[i] * unit * (offset + gain[i]) : x[i] * unit;
}

// Products are rounded before they are added, as torch's own are: the bits are those of the reference.
static void rotate_head(const float* x, const float* cos, const float* sin, int64_t pairs, int64_t dim, int woven, float* out) {
    for (int64_t i = 0; i < pairs; i++) {
        int64_t l = woven ? 2 * i : i, r = woven ? 2 * i + 1 : i + pairs;
        float left = x[l], right = x[r];
        out[l] = left * cos[i] - right * sin[i];
        out[r] = right * cos[i] + left * sin[i];
    }
    memcpy(out + 2 * pairs, x + 2 * pairs, size_t(dim - 2 * pairs) * 4);
}

static void swish_gate(const float* gate, const float* up, int64_t count, float* out) {
    for (int64_t i = 0; i < count; i += W) {
        int64_t left = count - i;
        vec g = left >= W ? load(gate + i) : load_some(gate + i, left);
        vec u = left >= W ? load(up + i) : load_some(up + i, left);
        vec y = mul(quotient(g, add(same(1.0f), exponential(sub(zero(), g)))), u);
        if (left >= W) store(out + i, y);
        else store_some(out + i, y, left);
    }
}
