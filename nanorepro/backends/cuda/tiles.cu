// The products of large layers whose sums are chains: a block computes a tile of M x N of them, each
// thread R x C of them in registers, term after term, with what the terms need in shared memory.
//
// A chain's terms come in their order, or from the last one on; nothing is summed across threads.

constexpr int TILE_THREADS = 128;

template <int V> __device__ __forceinline__ void load_some(const number* p, number (&v)[V]) {
  if constexpr (V == 4 && sizeof(number) == 4) {
    const float4 four = *reinterpret_cast<const float4*>(p);
    v[0] = four.x;
    v[1] = four.y;
    v[2] = four.z;
    v[3] = four.w;
  } else {
#pragma unroll
    for (int k = 0; k < V; ++k) v[k] = p[k];
  }
}

// M x N sums of K terms a(k, m) * b(k, n); put(m, n, sum) takes each.  TM, TN, TK: of a tile, and of a
// stage in shared memory.  A_ALONG, B_ALONG: whether a and b lie side by side along k.
template <class Sum, int TM, int TN, int TK, int R, int C, bool A_ALONG, bool B_ALONG, class A,
          class B, class Put>
__device__ __forceinline__ void tile(u32 M, u32 N, u32 K, bool reversed, RoundingKey t, A a, B b,
                                     Put put) {
  constexpr int V = R % 4 == 0 ? 4 : 1, W = C % 4 == 0 ? 4 : 1;  // side by side in one load
  constexpr int ACROSS = TM / R;
  static_assert(ACROSS * (TN / C) == TILE_THREADS, "a thread for each R x C");
  __shared__ __align__(16) number left[TK][TM + 4], right[TK][TN + 4];
  const u32 tiles = (M + TM - 1) / TM, me = threadIdx.x, x = me % ACROSS, y = me / ACROSS;
  const u32 m0 = blockIdx.x % tiles * TM, n0 = blockIdx.x / tiles * TN;
  Sum sums[R][C];
  for (u32 k0 = 0; k0 < K; k0 += TK) {
    for (u32 q = me; q < TK * TM; q += TILE_THREADS) {
      const u32 k = A_ALONG ? q % TK : q / TM, m = A_ALONG ? q / TK : q % TM;
      const u32 term = reversed ? K - 1 - (k0 + k) : k0 + k;
      left[k][m] = k0 + k < K && m0 + m < M ? a(term, m0 + m) : (number)0;
    }
    for (u32 q = me; q < TK * TN; q += TILE_THREADS) {
      const u32 k = B_ALONG ? q % TK : q / TN, n = B_ALONG ? q / TK : q % TN;
      const u32 term = reversed ? K - 1 - (k0 + k) : k0 + k;
      right[k][n] = k0 + k < K && n0 + n < N ? b(term, n0 + n) : (number)0;
    }
    __syncthreads();
    const u32 terms = K - k0 < TK ? K - k0 : TK;
#pragma unroll 4
    for (u32 k = 0; k < terms; ++k) {
      number of_a[R / V][V], of_b[C / W][W];
#pragma unroll
      for (int r = 0; r < R / V; ++r) load_some<V>(&left[k][(r * ACROSS + x) * V], of_a[r]);
#pragma unroll
      for (int c = 0; c < C / W; ++c) load_some<W>(&right[k][(c * (TN / C) + y) * W], of_b[c]);
#pragma unroll
      for (int r = 0; r < R; ++r) {
#pragma unroll
        for (int c = 0; c < C; ++c) sums[r][c].product(of_a[r / V][r % V], of_b[c / W][c % W], t);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < R; ++r) {
    const u32 m = m0 + (r / V * ACROSS + x) * V + r % V;
#pragma unroll
    for (int c = 0; c < C; ++c) {
      const u32 n = n0 + (c / W * (TN / C) + y) * W + c % W;
      if (m < M && n < N) put(m, n, sums[r][c].result(t));
    }
  }
}

#define LARGE 128, 32, 16, 8, 4  // many units
#define NARROW 4, 32, 128, 1, 1  // a few units, whose sums are long

// forward of layer k > 0: z = sum + b, h = A(z).
template <int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void forward_by_tiles(u32 k, const number* memory, number* z, number* h,
                                                 u32 n, const u64* keys, u64 step) {
  const Layer layer = layers[k];
  const RoundingKey t = rounding_key(keys, step);
  const number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const u64 above = ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + above - (u64)layer.fan_in * n;
  tile<Unit, TM, TN, TK, R, C, false, false>(
      layer.fan_out, n, layer.fan_in, UNIT_CHAIN < 0, t,
      [&](u32 j, u32 u) { return m[layer.weights + (u64)j * layer.fan_out + u]; },
      [&](u32 j, u32 i) { return below[(u64)j * n + i]; },
      [&](u32 u, u32 i, number sum) {
        const number found = op_add(sum, m[layer.biases + u], t);
        z[above + (u64)u * n + i] = found;
        h[above + (u64)u * n + i] = layer.active ? activation(found, t) : found;
      });
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    forward_large(u32 k, const number* memory, number* z, number* h, u32 n, const u64* keys,
                  u64 step) {
  forward_by_tiles<LARGE>(k, memory, z, h, n, keys, step);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    forward_narrow(u32 k, const number* memory, number* z, number* h, u32 n, const u64* keys,
                   u64 step) {
  forward_by_tiles<NARROW>(k, memory, z, h, n, keys, step);
}

// delta of the layer below layer k.
template <int TM, int TN, int TK, int R, int C>
__device__ __forceinline__ void backward_by_tiles(u32 k, const number* memory, const number* z,
                                                  number* d, u32 n, const u64* keys, u64 step) {
  const Layer layer = layers[k];
  const bool active = layers[k - 1].active;
  const RoundingKey t = rounding_key(keys, step);
  const number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* above = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const u64 below = ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  tile<Unit, TM, TN, TK, R, C, true, false>(
      layer.fan_in, n, layer.fan_out, UNIT_CHAIN < 0, t,
      [&](u32 u, u32 j) { return m[layer.weights + (u64)j * layer.fan_out + u]; },
      [&](u32 u, u32 i) { return above[(u64)u * n + i]; },
      [&](u32 j, u32 i, number sum) {
        const u64 at = below + (u64)j * n + i;
        d[at] = active ? activation_backward(sum, z[at], t) : sum;
      });
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    backward_large(u32 k, const number* memory, const number* z, number* d, u32 n,
                   const u64* keys, u64 step) {
  backward_by_tiles<LARGE>(k, memory, z, d, n, keys, step);
}

extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    backward_narrow(u32 k, const number* memory, const number* z, number* d, u32 n,
                    const u64* keys, u64 step) {
  backward_by_tiles<NARROW>(k, memory, z, d, n, keys, step);
}

// The gradient of each weight of layer k > 0, and its update; tiles of outputs by inputs.
extern "C" __global__ void __launch_bounds__(TILE_THREADS)
    descend_large(u32 k, number* memory, const number* h, const number* d, u32 n, const u64* keys,
                  u64 step, const number* rates, u32 rate) {
  const Layer layer = layers[k];
  const RoundingKey t = rounding_key(keys, step);
  number* m = memory + (u64)blockIdx.y * (1 + STATES) * PARAMETERS;
  const number* delta = d + ((u64)blockIdx.y * UNITS + layer.units) * n;
  const number* below = h + ((u64)blockIdx.y * UNITS + layer.units - layer.fan_in) * n;
  tile<Batch, LARGE, true, true>(
      layer.fan_out, layer.fan_in, n, BATCH_CHAIN < 0, t,
      [&](u32 i, u32 u) { return delta[(u64)u * n + i]; },
      [&](u32 i, u32 j) { return below[(u64)j * n + i]; },
      [&](u32 u, u32 j, number g) {
        update(m, layer.weights + j * layer.fan_out + u, g, rates[rate], t);
      });
}
