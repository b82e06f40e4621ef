// One vector of floats, W wide, in three versions: AVX-512, AVX2 with FMA, and whatever the compiler makes of plain code.
//
// The library is built on the machine that runs it, so the compiler's own macros say what the processor can do. Sums
// are written with `fma` alone and the compiler may contract nothing (-ffp-contract=off): an addition's place in its
// sum is then fixed by the code, and not by which of several instances of a template a row happens to run in.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define HANOK_AVX2 1
#endif
#if defined(HANOK_AVX2) && defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__) && defined(__AVX512DQ__)
#define HANOK_AVX512 1
#if defined(__AVX512VNNI__)
#define HANOK_VNNI 1
#endif
#endif

struct bf16 {
    uint16_t bits;
};
typedef uint16_t half;

static inline float widen(bf16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float y;
    memcpy(&y, &bits, 4);
    return y;
}

static inline bf16 narrow(float x) {  // to the nearest, ties to even; what is no number stays none
    uint32_t bits;
    memcpy(&bits, &x, 4);
    if ((bits & 0x7fffffff) > 0x7f800000) return {uint16_t((bits >> 16) | 64)};
    return {uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
}

static inline float widen_half(half x) {
    int exponent = x >> 10 & 31;
    float size = exponent ? std::ldexp(float(x & 1023) + 1024, exponent - 25) : std::ldexp(float(x & 1023), -24);
    return x >> 15 ? -size : size;
}

#if defined(HANOK_AVX512)

constexpr int W = 16;
typedef __m512 vec;
static inline vec zero() { return _mm512_setzero_ps(); }
static inline vec same(float x) { return _mm512_set1_ps(x); }
static inline vec fma(vec a, vec b, vec c) { return _mm512_fmadd_ps(a, b, c); }
static inline vec add(vec a, vec b) { return _mm512_add_ps(a, b); }
static inline vec sub(vec a, vec b) { return _mm512_sub_ps(a, b); }
static inline vec mul(vec a, vec b) { return _mm512_mul_ps(a, b); }
static inline vec quotient(vec a, vec b) { return _mm512_div_ps(a, b); }
static inline vec larger(vec a, vec b) { return _mm512_max_ps(a, b); }
static inline vec load(const float* p) { return _mm512_loadu_ps(p); }
static inline vec load(const bf16* p) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}
static inline void store(float* p, vec x) { _mm512_storeu_ps(p, x); }
static inline float sum(vec x) {
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
    __m128 quarter = _mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1));
    quarter = _mm_add_ps(quarter, _mm_movehl_ps(quarter, quarter));
    return _mm_cvtss_f32(_mm_add_ss(quarter, _mm_movehdup_ps(quarter)));
}
static inline float largest(vec x) { return _mm512_reduce_max_ps(x); }
static inline vec whole(vec x) { return _mm512_roundscale_ps(x, 0); }
static inline void store_whole(int16_t* p, vec x) {
    _mm256_storeu_si256((__m256i*)p, _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(x)));
}
static inline void store_whole(int8_t* p, vec x) {
    _mm_storeu_si128((__m128i*)p, _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)));
}
static inline vec power_of_two(vec n) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127)), 23));
}
static inline vec keep_nan(vec y, vec x) {
    return _mm512_mask_mov_ps(y, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), x);
}
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

typedef __m512i ints;
static inline ints no_ints() { return _mm512_setzero_si512(); }
static inline ints load_pairs(const int16_t* p) { return _mm512_loadu_si512(p); }
static inline ints load_pairs(const int8_t* p) { return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i*)p)); }
static inline void store_pairs(int16_t* p, ints x) { _mm512_storeu_si512(p, x); }
static inline ints same_pair(int32_t pair) { return _mm512_set1_epi32(pair); }
static inline ints add_products(ints sum, ints a, ints b) {
#if defined(HANOK_VNNI)
    return _mm512_dpwssd_epi32(sum, a, b);
#else
    return _mm512_add_epi32(sum, _mm512_madd_epi16(a, b));
#endif
}
static inline vec floats(ints x) { return _mm512_cvtepi32_ps(x); }
#if !defined(HANOK_EMULATED)
static inline void here(ints& x) { asm volatile("" : "+v"(x)); }
#else
static inline void here(ints&) {}
#endif
static inline int32_t total(ints x) { return _mm512_reduce_add_epi32(x); }

#elif defined(HANOK_AVX2)

constexpr int W = 8;
typedef __m256 vec;
static inline vec zero() { return _mm256_setzero_ps(); }
static inline vec same(float x) { return _mm256_set1_ps(x); }
static inline vec fma(vec a, vec b, vec c) { return _mm256_fmadd_ps(a, b, c); }
static inline vec add(vec a, vec b) { return _mm256_add_ps(a, b); }
static inline vec sub(vec a, vec b) { return _mm256_sub_ps(a, b); }
static inline vec mul(vec a, vec b) { return _mm256_mul_ps(a, b); }
static inline vec quotient(vec a, vec b) { return _mm256_div_ps(a, b); }
static inline vec larger(vec a, vec b) { return _mm256_max_ps(a, b); }
static inline vec load(const float* p) { return _mm256_loadu_ps(p); }
static inline vec load(const bf16* p) {
    __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i*)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(wide, 16));
}
static inline void store(float* p, vec x) { _mm256_storeu_ps(p, x); }
static inline float sum(vec x) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}
static inline float largest(vec x) {
    __m128 half = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    half = _mm_max_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_max_ss(half, _mm_movehdup_ps(half)));
}
static inline vec whole(vec x) { return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline __m128i brief_of(vec x) {
    __m256i n = _mm256_cvtps_epi32(x);
    return _mm_packs_epi32(_mm256_castsi256_si128(n), _mm256_extracti128_si256(n, 1));
}
static inline void store_whole(int16_t* p, vec x) { _mm_storeu_si128((__m128i*)p, brief_of(x)); }
static inline void store_whole(int8_t* p, vec x) { _mm_storel_epi64((__m128i*)p, _mm_packs_epi16(brief_of(x), brief_of(x))); }
static inline vec power_of_two(vec n) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127)), 23));
}
static inline vec keep_nan(vec y, vec x) { return _mm256_blendv_ps(y, x, _mm256_cmp_ps(x, x, _CMP_UNORD_Q)); }
static inline float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }

typedef __m256i ints;
static inline ints no_ints() { return _mm256_setzero_si256(); }
static inline ints load_pairs(const int16_t* p) { return _mm256_loadu_si256((const __m256i*)p); }
static inline ints load_pairs(const int8_t* p) { return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i*)p)); }
static inline void store_pairs(int16_t* p, ints x) { _mm256_storeu_si256((__m256i*)p, x); }
static inline ints same_pair(int32_t pair) { return _mm256_set1_epi32(pair); }
static inline ints add_products(ints sum, ints a, ints b) { return _mm256_add_epi32(sum, _mm256_madd_epi16(a, b)); }
static inline vec floats(ints x) { return _mm256_cvtepi32_ps(x); }
static inline void here(ints& x) { asm volatile("" : "+x"(x)); }
static inline int32_t total(ints x) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1)));
}

#else

constexpr int W = 8;
struct vec {
    float at[W];
};
#define HANOK_EACH(expression)                         \
    vec y;                                             \
    for (int i = 0; i < W; i++) y.at[i] = expression; \
    return y;
static inline vec zero() { HANOK_EACH(0.0f) }
static inline vec same(float x) { HANOK_EACH(x) }
static inline vec fma(vec a, vec b, vec c) { HANOK_EACH(a.at[i] * b.at[i] + c.at[i]) }
static inline vec add(vec a, vec b) { HANOK_EACH(a.at[i] + b.at[i]) }
static inline vec sub(vec a, vec b) { HANOK_EACH(a.at[i] - b.at[i]) }
static inline vec mul(vec a, vec b) { HANOK_EACH(a.at[i] * b.at[i]) }
static inline vec quotient(vec a, vec b) { HANOK_EACH(a.at[i] / b.at[i]) }
static inline vec larger(vec a, vec b) { HANOK_EACH(a.at[i] > b.at[i] ? a.at[i] : b.at[i]) }
static inline vec load(const float* p) { HANOK_EACH(p[i]) }
static inline vec load(const bf16* p) { HANOK_EACH(widen(p[i])) }
static inline void store(float* p, vec x) { memcpy(p, x.at, sizeof x.at); }
static inline float sum(vec x) {
    for (int half = W / 2; half; half /= 2)
        for (int i = 0; i < half; i++) x.at[i] += x.at[i + half];
    return x.at[0];
}
static inline float largest(vec x) {
    float y = x.at[0];
    for (int i = 1; i < W; i++) y = x.at[i] > y ? x.at[i] : y;
    return y;
}
static inline vec whole(vec x) { HANOK_EACH(std::nearbyint(x.at[i])) }
template <class Q>
static inline void store_whole(Q* p, vec x) {
    for (int i = 0; i < W; i++) p[i] = x.at[i] == x.at[i] ? Q(int(std::nearbyint(x.at[i]))) : 0;
}
static inline vec power_of_two(vec n) { HANOK_EACH(std::ldexp(1.0f, int(n.at[i]))) }
static inline vec keep_nan(vec y, vec x) {
    for (int i = 0; i < W; i++) y.at[i] = x.at[i] != x.at[i] ? x.at[i] : y.at[i];
    return y;
}
static inline float fma(float a, float b, float c) { return a * b + c; }

struct ints {  // 2 W numbers of 16 bits, or W of 32
    union {
        int16_t brief[2 * W];
        int32_t at[W];
    };
};
static inline ints no_ints() { return {}; }
template <class T>
static inline ints load_pairs(const T* p) {
    ints y;
    for (int i = 0; i < 2 * W; i++) y.brief[i] = p[i];
    return y;
}
static inline void store_pairs(int16_t* p, ints x) { memcpy(p, x.brief, sizeof x.brief); }
static inline ints same_pair(int32_t pair) {
    ints y;
    for (int i = 0; i < W; i++) y.at[i] = pair;
    return y;
}
static inline ints add_products(ints sum, ints a, ints b) {
    for (int i = 0; i < W; i++) sum.at[i] += a.brief[2 * i] * b.brief[2 * i] + a.brief[2 * i + 1] * b.brief[2 * i + 1];
    return sum;
}
static inline vec floats(ints x) { HANOK_EACH(float(x.at[i])) }
static inline void here(ints&) {}
static inline int32_t total(ints x) {
    int32_t y = 0;
    for (int i = 0; i < W; i++) y += x.at[i];
    return y;
}

#endif

// `store_whole` rounds to the nearest whole numbers, ties to even, of as many bits as there is room for; what no such
// number stands for becomes some number.
// In the vectors of 16-bit numbers a pair side by side makes one of 32 bits: `add_products(sum, a, b)` adds the two
// products of each pair. Whole numbers add up without rounding, in whichever order. `here(x)` has x in a register by now:
// a compiler that makes all products before it adds the first keeps the sums in memory.

// e^x to about 1e-7 of itself: 2^n e^r with |r| <= ln 2 / 2, and e^r by a polynomial (the coefficients of Cephes' expf).
static inline vec exponential(vec given) {
    vec x = larger(sub(zero(), larger(sub(zero(), given), same(-88.0f))), same(-87.0f));
    vec n = whole(mul(x, same(1.44269504f)));
    vec r = fma(n, same(-0.693359375f), x);
    r = fma(n, same(2.12194440e-4f), r);
    vec p = same(1.9875691500e-4f);
    p = fma(p, r, same(1.3981999507e-3f));
    p = fma(p, r, same(8.3334519073e-3f));
    p = fma(p, r, same(4.1665795894e-2f));
    p = fma(p, r, same(1.6666665459e-1f));
    p = fma(p, r, same(5.0000001201e-1f));
    p = fma(p, mul(r, r), add(r, same(1.0f)));
    return keep_nan(mul(p, power_of_two(n)), given);
}

// Up to W numbers from memory that ends there, the rest zero.
template <class T>
static inline vec load_some(const T* p, long count) {
    T padded[W] = {};
    memcpy(padded, p, size_t(count) * sizeof(T));
    return load(padded);
}

static inline ints load_some_pairs(const int8_t* p, long count) {
    int8_t padded[2 * W] = {};
    memcpy(padded, p, size_t(count));
    return load_pairs(padded);
}

static inline void store_some(float* p, vec x, long count) {
    float padded[W];
    store(padded, x);
    memcpy(p, padded, size_t(count) * sizeof(float));
}

// The sums of eight vectors, each added up as `sum` does it.
static inline void eight_sums(const vec* x, float* to) {
#if defined(HANOK_AVX2) && !defined(HANOK_AVX512)
    vec half[4], quarter[2];
    for (int i = 0; i < 4; i++)
        half[i] = add(_mm256_permute2f128_ps(x[i], x[i + 4], 0x20), _mm256_permute2f128_ps(x[i], x[i + 4], 0x31));
    for (int i = 0; i < 2; i++)
        quarter[i] = add(_mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0x44), _mm256_shuffle_ps(half[2 * i], half[2 * i + 1], 0xee));
    store(to, add(_mm256_shuffle_ps(quarter[0], quarter[1], 0x88), _mm256_shuffle_ps(quarter[0], quarter[1], 0xdd)));
#else
    for (int i = 0; i < 8; i++) to[i] = sum(x[i]);
#endif
}

#define HANOK_INLINE __attribute__((always_inline))

// f(0) ... f(N - 1) with numbers that the compiler knows: arrays of vectors that are indexed by anything else are kept in
// memory, and written there in every round.
template <class F, int... I>
HANOK_INLINE static inline void each_of(std::integer_sequence<int, I...>, F&& f) {
    (f(std::integral_constant<int, I>{}), ...);
}
template <int N, class F>
HANOK_INLINE static inline void each(F&& f) { each_of(std::make_integer_sequence<int, N>{}, f); }
