// What every program begins with: types, bit patterns, Philox.

typedef unsigned int u32;
typedef unsigned long long u64;

#define ALL_LANES 0xFFFFFFFFu

// Stochastic rounding draws from it: the key of the model's stream, and the step.
struct RoundingKey { u64 k0, k1, step; };

// A GPU's float32 operations give the NaN of which all bits but the sign are set, a CPU's one whose
// last bits are 0; roundings of the pattern count on those, as 0x7FFFFFFF + 1 would be -0.
__device__ __forceinline__ u32 pattern(float x) {
  return (u32)min(__float_as_int(x), 0x7FC00000);
}
__device__ __forceinline__ u64 pattern(double x) { return (u64)__double_as_longlong(x); }
__device__ __forceinline__ float from_pattern(u32 bits) { return __uint_as_float(bits); }
__device__ __forceinline__ double from_pattern(u64 bits) {
  return __longlong_as_double((long long)bits);
}

struct Words { u32 a, b, c, d; };

// Philox4x32-10 (Salmon et al., SC 2011).
__device__ inline Words philox(u32 c0, u32 c1, u32 c2, u32 c3, u32 k0, u32 k1) {
#pragma unroll
  for (int round = 0; round < 10; ++round) {
    const u32 high0 = __umulhi(0xD2511F53u, c0), low0 = 0xD2511F53u * c0;
    const u32 high1 = __umulhi(0xCD9E8D57u, c2), low1 = 0xCD9E8D57u * c2;
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return Words{c0, c1, c2, c3};
}

// A whole number below n from two words: floor((high * 2^32 + low) * n / 2^64).
__device__ __forceinline__ u32 bounded(u32 high, u32 low, u32 n) {
  return (u32)(((u64)high * n + __umulhi(low, n)) >> 32);
}

// The place with which place i is exchanged in a permutation by a block of a stream.
__device__ __forceinline__ u32 exchanged(u32 i, u64 block, const u32* key) {
  const Words w = philox(i >> 1, (u32)block, (u32)(block >> 32), 1, key[0], key[1]);
  return bounded(i & 1 ? w.c : w.a, i & 1 ? w.d : w.b, i + 1);
}
