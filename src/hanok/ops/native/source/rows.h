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

// A row's largest number, or none where one of the row is none, and the first place where it stands.
static void largest_of_row(const float* x, int64_t count, float* top, int64_t* at) {
    const int64_t even = count / W * W;
    vec most = same(x[0]), sound = zero();
    for (int64_t i = 0; i < even; i += W) {
        vec v = load(x + i);
        most = larger(most, v);
        sound = keep_nan(sound, v);
    }
    float found = largest(most), none = sum(sound);
    for (int64_t i = even; i < count; i++) {
        found = x[i] > found ? x[i] : found;
        none += x[i] != x[i] ? x[i] : 0.0f;
    }
    *top = found + none;
    *at = 0;
    while (*at < count - 1 && x[*at] != *top) ++*at;
}
