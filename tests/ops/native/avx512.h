// The instructions of AVX-512 that the kernels use, in plain code: what they compute is tested on processors without them.
#pragma once
#include <algorithm>
#include <immintrin.h>

#define HANOK_EMULATED 1
#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512VL__ 1
#define __AVX512DQ__ 1
#if defined(EMULATE_VNNI)
#define __AVX512VNNI__ 1
#endif

namespace wide {
typedef int whole __attribute__((vector_size(64)));
typedef unsigned counts __attribute__((vector_size(64)));
typedef unsigned short shorts __attribute__((vector_size(64)));
typedef signed char bytes __attribute__((vector_size(64)));

template <class V, class F>
static inline V each(F f) {
    V y;
    for (int i = 0; i < int(sizeof(V) / sizeof(y[0])); i++) y[i] = f(i);
    return y;
}

static inline __m512 setzero_ps() { return __m512{}; }
static inline __m512 set1_ps(float x) { return each<__m512>([=](int) { return x; }); }
static inline __m512i set1_epi32(int x) { return (__m512i)each<whole>([=](int) { return x; }); }
static inline __m512i set1_epi8(char x) { return (__m512i)each<bytes>([=](int) { return x; }); }
static inline __m512 fmadd_ps(__m512 a, __m512 b, __m512 c) {
    return each<__m512>([=](int i) { return __builtin_fmaf(a[i], b[i], c[i]); });
}
static inline __m512 add_ps(__m512 a, __m512 b) { return a + b; }
static inline __m512 sub_ps(__m512 a, __m512 b) { return a - b; }
static inline __m512 mul_ps(__m512 a, __m512 b) { return a * b; }
static inline __m512 div_ps(__m512 a, __m512 b) { return a / b; }
static inline __m512 max_ps(__m512 a, __m512 b) {  // the second where one is no number, as the processor does
    return each<__m512>([=](int i) { return a[i] > b[i] ? a[i] : b[i]; });
}
static inline float reduce_max_ps(__m512 x) {
    float y = x[0];
    for (int i = 1; i < 16; i++) y = x[i] > y ? x[i] : y;
    return y;
}
static inline __m512 roundscale_ps(__m512 x, int) {
    return each<__m512>([=](int i) { return __builtin_nearbyintf(x[i]); });
}
static inline unsigned cmp_ps_mask(__m512 a, __m512 b, int) {  // _CMP_UNORD_Q, the one that is asked for
    unsigned mask = 0;
    for (int i = 0; i < 16; i++) mask |= unsigned(a[i] != a[i] || b[i] != b[i]) << i;
    return mask;
}
static inline __m512 mask_mov_ps(__m512 a, unsigned mask, __m512 b) {
    return each<__m512>([=](int i) { return mask >> i & 1 ? b[i] : a[i]; });
}
static inline __m512 loadu_ps(const void* p) {
    __m512 y;
    __builtin_memcpy(&y, p, 64);
    return y;
}
static inline __m512i loadu_si512(const void* p) { return (__m512i)loadu_ps(p); }
static inline void storeu_ps(void* p, __m512 x) { __builtin_memcpy(p, &x, 64); }
static inline __m512 castsi512_ps(__m512i x) { return (__m512)x; }
static inline __m256 castps512_ps256(__m512 x) {
    return each<__m256>([=](int i) { return x[i]; });
}
static inline __m256 extractf32x8_ps(__m512 x, int half) {
    return each<__m256>([=](int i) { return x[half * 8 + i]; });
}
static inline __m512i add_epi32(__m512i a, __m512i b) { return (__m512i)((counts)a + (counts)b); }
static inline __m512i slli_epi32(__m512i a, int n) { return (__m512i)((counts)a << n); }
static inline __m512i srli_epi16(__m512i a, int n) { return (__m512i)((shorts)a >> n); }
static inline __m512i and_si512(__m512i a, __m512i b) { return a & b; }
static inline __m512 cvtepi32_ps(__m512i x) {
    return each<__m512>([=](int i) { return float(((whole)x)[i]); });
}
static inline __m512i cvtps_epi32(__m512 x) {
    return (__m512i)each<whole>([=](int i) { return int(__builtin_nearbyintf(x[i])); });
}
static inline __m256i cvtsepi32_epi16(__m512i x) {
    short at[16];
    for (int i = 0; i < 16; i++) at[i] = short(std::max(-32768, std::min(32767, ((whole)x)[i])));
    __m256i y;
    __builtin_memcpy(&y, at, 32);
    return y;
}
static inline __m128i cvtsepi32_epi8(__m512i x) {
    signed char at[16];
    for (int i = 0; i < 16; i++) at[i] = (signed char)std::max(-128, std::min(127, ((whole)x)[i]));
    __m128i y;
    __builtin_memcpy(&y, at, 16);
    return y;
}
static inline __m512i cvtepu16_epi32(__m256i x) {
    unsigned short at[16];
    __builtin_memcpy(at, &x, 32);
    return (__m512i)each<whole>([&](int i) { return at[i]; });
}
static inline __m512i cvtepi8_epi32(__m128i x) {
    signed char at[16];
    __builtin_memcpy(at, &x, 16);
    return (__m512i)each<whole>([&](int i) { return at[i]; });
}
static inline __m512 cvtph_ps(__m256i x) {
    __m128i at[2];
    __builtin_memcpy(at, &x, 32);
    __m256 low = _mm256_cvtph_ps(at[0]), high = _mm256_cvtph_ps(at[1]);
    return each<__m512>([=](int i) { return i < 8 ? low[i] : high[i - 8]; });
}
static inline __m512i dpbusd_epi32(__m512i sums, __m512i a, __m512i b) {  // four unsigned times four signed bytes
    unsigned char left[64];
    signed char right[64];
    __builtin_memcpy(left, &a, 64);
    __builtin_memcpy(right, &b, 64);
    return (__m512i)each<whole>([&](int i) {
        int y = ((whole)sums)[i];
        for (int k = 4 * i; k < 4 * i + 4; k++) y += left[k] * right[k];
        return y;
    });
}
static inline __m512i cvtepi8_epi16(__m256i x) {
    signed char at[32];
    __builtin_memcpy(at, &x, 32);
    return (__m512i)each<shorts>([&](int i) { return (unsigned short)at[i]; });
}
static inline __m512i madd_epi16(__m512i a, __m512i b) {
    short left[32], right[32];
    __builtin_memcpy(left, &a, 64);
    __builtin_memcpy(right, &b, 64);
    return (__m512i)each<whole>([&](int i) { return left[2 * i] * right[2 * i] + left[2 * i + 1] * right[2 * i + 1]; });
}
static inline __m512i dpwssd_epi32(__m512i sums, __m512i a, __m512i b) { return add_epi32(sums, madd_epi16(a, b)); }
static inline int reduce_add_epi32(__m512i x) {
    int y = 0;
    for (int i = 0; i < 16; i++) y += ((whole)x)[i];
    return y;
}
}  // namespace wide

#define _mm512_setzero_ps wide::setzero_ps
#define _mm512_set1_ps wide::set1_ps
#define _mm512_set1_epi32 wide::set1_epi32
#define _mm512_set1_epi8 wide::set1_epi8
#define _mm512_fmadd_ps wide::fmadd_ps
#define _mm512_add_ps wide::add_ps
#define _mm512_sub_ps wide::sub_ps
#define _mm512_mul_ps wide::mul_ps
#define _mm512_div_ps wide::div_ps
#define _mm512_max_ps wide::max_ps
#define _mm512_reduce_max_ps wide::reduce_max_ps
#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps wide::roundscale_ps
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask wide::cmp_ps_mask
#define _mm512_mask_mov_ps wide::mask_mov_ps
#define _mm512_loadu_ps wide::loadu_ps
#define _mm512_loadu_si512 wide::loadu_si512
#define _mm512_storeu_ps wide::storeu_ps
#define _mm512_castsi512_ps wide::castsi512_ps
#define _mm512_castps512_ps256 wide::castps512_ps256
#undef _mm512_extractf32x8_ps
#define _mm512_extractf32x8_ps wide::extractf32x8_ps
#define _mm512_add_epi32 wide::add_epi32
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 wide::slli_epi32
#undef _mm512_srli_epi16
#define _mm512_srli_epi16 wide::srli_epi16
#define _mm512_and_si512 wide::and_si512
#define _mm512_cvtepi32_ps wide::cvtepi32_ps
#define _mm512_setzero_si512() ((__m512i)wide::setzero_ps())
#define _mm512_storeu_si512(p, x) wide::storeu_ps(p, (__m512)(x))
#define _mm512_cvtepi8_epi16 wide::cvtepi8_epi16
#define _mm512_madd_epi16 wide::madd_epi16
#define _mm512_dpwssd_epi32 wide::dpwssd_epi32
#define _mm512_reduce_add_epi32 wide::reduce_add_epi32
#define _mm512_cvtps_epi32 wide::cvtps_epi32
#define _mm512_cvtsepi32_epi16 wide::cvtsepi32_epi16
#define _mm512_cvtsepi32_epi8 wide::cvtsepi32_epi8
#define _mm512_cvtepu16_epi32 wide::cvtepu16_epi32
#define _mm512_cvtepi8_epi32 wide::cvtepi8_epi32
#define _mm512_cvtph_ps wide::cvtph_ps
#define _mm512_dpbusd_epi32 wide::dpbusd_epi32
