// Numbers that lie side by side, four at a time where they are float32; those begin at multiples of four.

// N of them, into v from v[to] on
template <int N, int V>
__device__ __forceinline__ void load(const number* p, number (&v)[V], int to = 0) {
  if constexpr (N % 4 == 0 && sizeof(number) == 4) {
#pragma unroll
    for (int k = 0; k < N; k += 4) {
      const float4 four = *reinterpret_cast<const float4*>(p + k);
      v[to + k] = four.x;
      v[to + k + 1] = four.y;
      v[to + k + 2] = four.z;
      v[to + k + 3] = four.w;
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) v[to + k] = p[k];
  }
}

template <int N> __device__ __forceinline__ void store(number* p, const number (&v)[N]) {
  if constexpr (N % 4 == 0 && sizeof(number) == 4) {
#pragma unroll
    for (int k = 0; k < N; k += 4) {
      *reinterpret_cast<float4*>(p + k) = make_float4(v[k], v[k + 1], v[k + 2], v[k + 3]);
    }
  } else {
#pragma unroll
    for (int k = 0; k < N; ++k) p[k] = v[k];
  }
}
