// A launch for each layer whose sums go by tiles: a block for each of them (blockIdx.x), all models in it.

template <int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void forward_tile(u32 k, const number* memory, number* z, number* h, u32 n,
                                             const u64* keys, u64 step) {
  __shared__ __align__(16) Staged<TM, TN, TK> staged;
  with_forward(k, [&](auto empty) {
    if constexpr (!decltype(empty)::EXACT) {  // which have no tiles
      forward_by_tiles<decltype(empty), TM, TN, TK, R, C>(staged, blockIdx.x, k, memory, z, h, n,
                                                          rounding_key(keys, step));
    }
  });
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    forward_large(u32 k, const number* memory, number* z, number* h, u32 n, const u64* keys,
                  u64 step) {
  forward_tile<LARGE>(k, memory, z, h, n, keys, step);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    forward_narrow(u32 k, const number* memory, number* z, number* h, u32 n, const u64* keys,
                   u64 step) {
  forward_tile<NARROW>(k, memory, z, h, n, keys, step);
}

template <int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void backward_tile(u32 k, const number* memory, const number* z, number* d,
                                              u32 n, const u64* keys, u64 step) {
  __shared__ __align__(16) Staged<TM, TN, TK> staged;
  with_backward(k, [&](auto empty) {
    if constexpr (!decltype(empty)::EXACT) {  // which have no tiles
      backward_by_tiles<decltype(empty), TM, TN, TK, R, C>(staged, blockIdx.x, k, memory, z, d, n,
                                                           rounding_key(keys, step));
    }
  });
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    backward_large(u32 k, const number* memory, const number* z, number* d, u32 n,
                   const u64* keys, u64 step) {
  backward_tile<LARGE>(k, memory, z, d, n, keys, step);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    backward_narrow(u32 k, const number* memory, const number* z, number* d, u32 n,
                    const u64* keys, u64 step) {
  backward_tile<NARROW>(k, memory, z, d, n, keys, step);
}

template <int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void descend_tile(u32 k, number* memory, const number* h, const number* d,
                                             u32 n, RoundingKey t, number rate) {
  __shared__ __align__(16) Staged<TM, TN, TK> staged;
  with_batch(k, [&](auto empty) {
    if constexpr (!decltype(empty)::EXACT) {  // which have no tiles
      descend_by_tiles<decltype(empty), TM, TN, TK, R, C>(staged, blockIdx.x, k, memory, h, d, n, t,
                                                          rate);
    }
  });
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    descend_large(u32 k, number* memory, const number* h, const number* d, u32 n, const u64* keys,
                  u64 step, const number* rates, u32 rate) {
  descend_tile<LARGE>(k, memory, h, d, n, rounding_key(keys, step), rates[rate]);
}
