// The functions that Python calls; everything is one translation unit and compiles in seconds.
#include "attention.h"
#include "int4.h"
#include "int8.h"
#include "rows.h"

extern "C" {

// Bumped with every change of a signature; the caller asks for the one that it was written for.
int hanok_version() { return 3; }

const char* hanok_vectors() {
#if defined(HANOK_VNNI)
    return "avx512-vnni";
#elif defined(HANOK_AVX512)
    return "avx512";
#elif defined(HANOK_AVX2)
    return "avx2";
#else
    return "portable";
#endif
}

static void multiply(const Products& products, const void* x, int64_t rows, int threads) {
    const Weight& w = products.first();
    double outputs = 0;
    for (int i = 0; i < products.count; i++) outputs += double(products.weights[i].outputs);
    if (double(rows) * outputs * double(w.inputs) < 65536) threads = 1;
    const float* wide = wide_rows(w, x, rows, threads);
    if (w.kind == INT4) int4_products(products, wide, rows, threads);
    else if (w.kind == INT8) int8_products(products, wide, rows, threads);
    else if (rows <= FEW) dots(products, wide, rows, threads);
    else panels(products, wide, rows, threads);
}

// y = x W^T + b for x (rows, inputs) and y (rows, outputs); see struct Weight.
void hanok_product(const void* data, const void* scale, const void* bias, int64_t outputs, int64_t inputs, int kind,
                   int brief, const void* x, int64_t rows, void* out, int threads) {
    const Weight weight = {data, scale, bias, outputs, inputs, kind, brief};
    multiply({&weight, &out, 1}, x, rows, threads);
}

void hanok_attend(const Step* step, const Attention* attention, int threads) {
    if (attention->brief) attend<bf16>(*step, *attention, threads);
    else attend<float>(*step, *attention, threads);
}

void hanok_rms_norm(const float* x, const float* gain, float offset, float eps, int64_t rows, int64_t dim, float* out,
                    int threads) {
    in_stretches(rows, dim, threads, [=](int64_t first, int64_t end) {
        for (int64_t r = first; r < end; r++) rms_row(x + r * dim, gain, offset, eps, dim, out + r * dim);
    });
}

// Turn q (tokens, heads, dim) and k (tokens, key_heads, dim) by the angles of their positions, rows of a table of
// cosines behind one of sines. Nothing is done and one more than the largest position returned if that is not in it.
int64_t hanok_rotate(const float* q, const float* k, const float* cos, const float* sin, int64_t length,
                     const int64_t* positions, int64_t tokens, int64_t heads, int64_t key_heads, int64_t dim,
                     int64_t pairs, int woven, float* q_out, float* k_out, int threads) {
    int64_t need = 0;
    for (int64_t t = 0; t < tokens; t++) need = std::max(need, positions[t] + 1);
    if (need > length) return need;
    auto turn_heads = [=](const float* x, int64_t t, int64_t count, float* to) {
        const float *c = cos + positions[t] * pairs, *s = sin + positions[t] * pairs;
        for (int64_t h = t * count; h < (t + 1) * count; h++) rotate_head(x + h * dim, c, s, pairs, dim, woven, to + h * dim);
    };
    in_stretches(tokens, (heads + key_heads) * dim, threads, [=](int64_t first, int64_t end) {
        for (int64_t t = first; t < end; t++) {
            turn_heads(q, t, heads, q_out);
            turn_heads(k, t, key_heads, k_out);
        }
    });
    return 0;
}

void hanok_swish_gate(const float* gate, const float* up, int64_t count, float* out, int threads) {
    in_stretches((count + LINE - 1) / LINE, LINE, threads, [=](int64_t first, int64_t end) {
        first *= LINE;
        swish_gate(gate + first, up + first, std::min<int64_t>(count, end * LINE) - first, out + first);
    });
}

void hanok_add(const float* a, const float* b, int64_t count, float* out, int threads) {
    in_stretches((count + LINE - 1) / LINE, LINE, threads, [=](int64_t first, int64_t end) {
        for (int64_t i = first * LINE; i < std::min<int64_t>(count, end * LINE); i++) out[i] = a[i] + b[i];
    });
}

void hanok_lookup(const float* table, const int64_t* at, int64_t count, int64_t dim, float* out) {
    for (int64_t i = 0; i < count; i++) memcpy(out + i * dim, table + at[i] * dim, size_t(dim) * 4);
}

// The largest number of each of `rows` rows, and where it first stands.
void hanok_largest(const float* x, int64_t rows, int64_t width, float* tops, int64_t* places, int threads) {
    in_stretches(rows, width, threads, [=](int64_t first, int64_t end) {
        for (int64_t r = first; r < end; r++) largest_of_row(x + r * width, width, tops + r, places + r);
    });
}

// A call with its arguments in their order, whole numbers and addresses apart from the two fractions.
struct Recorded {
    int64_t call, given[16];
    double fractions[2];
};

// Make products that follow one another with the same rows together; return how many.
static int64_t together(const Recorded* calls, int64_t count) {
    constexpr int MOST = 4;
    Weight weights[MOST];
    void* outs[MOST];
    const int64_t* one = calls[0].given;
    int n = 0;
    for (; n < std::min<int64_t>(MOST, count) && calls[n].call == 0; n++) {
        const int64_t* g = calls[n].given;
        if (!std::equal(g + 4, g + 9, one + 4) || g[10] != one[10]) break;  // inputs, kind, brief, rows; threads
        weights[n] = {(void*)g[0], (void*)g[1], (void*)g[2], g[3], g[4], int32_t(g[5]), int32_t(g[6])};
        outs[n] = (void*)g[9];
    }
    multiply({weights, outs, n}, (void*)one[7], one[8], int(one[10]));
    return n;
}

// Make recorded calls again, in their order. Not 0: what was recorded does not fit this step (see hanok_rotate).
int64_t hanok_replay(const Recorded* calls, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        const int64_t* g = calls[i].given;
        const double* f = calls[i].fractions;
        auto p = [g](int at) { return (float*)g[at]; };
        switch (calls[i].call) {
            case 0: i += together(calls + i, count - i) - 1; break;
            case 1: hanok_attend((const Step*)g[0], (const Attention*)g[1], int(g[2])); break;
            case 2: hanok_rms_norm(p(0), p(1), float(f[0]), float(f[1]), g[2], g[3], p(4), int(g[5])); break;
            case 3:
                if (int64_t need = hanok_rotate(p(0), p(1), p(2), p(3), g[4], (const int64_t*)g[5], g[6], g[7], g[8],
                                                g[9], g[10], int(g[11]), p(12), p(13), int(g[14])))
                    return need;
                break;
            case 4: hanok_swish_gate(p(0), p(1), g[2], p(3), int(g[4])); break;
            case 5: hanok_add(p(0), p(1), g[2], p(3), int(g[4])); break;
            case 6: hanok_lookup(p(0), (const int64_t*)g[1], g[2], g[3], p(4)); break;
            case 7: hanok_largest(p(0), g[1], g[2], p(3), (int64_t*)g[4], int(g[5])); break;
            default: return -1;
        }
    }
    return 0;
}

}
