// A block for each model, all steps of a launch in it: for models that one multiprocessor is enough for.
//
// In front of this text: TILED, whether any layer has sums that go by tiles of MIDDLE, for which the block
// has TILE_THREADS threads.

template <int TM, int TN, int TK, int R, int C> struct RoomOf { typedef Staged<TM, TN, TK> Type; };
typedef RoomOf<MIDDLE>::Type Room;

// body(at) for each tile of m x n sums.
template <int TM, int TN, int TK, int R, int C, class Body>
__device__ __forceinline__ void each_tile(u32 m, u32 n, Body body) {
#pragma unroll 1
  for (u32 at = 0; at < (m + TM - 1) / TM * ((n + TN - 1) / TN); ++at) body(at);
}

// Layer k forward by tiles, if it goes by them; whether it does.
template <class Sum>
__device__ __forceinline__ bool forward_block(Room& staged, u32 k, const number* memory, number* z,
                                              number* h, u32 n, RoundingKey t) {
  if constexpr (TILED && !Sum::EXACT) {
    if (layers[k].forward_tiles) {
      each_tile<MIDDLE>(layers[k].fan_out, n, [&](u32 at) {
        forward_by_tiles<Sum, MIDDLE>(staged, at, k, memory, z, h, n, t);
      });
      return true;
    }
  }
  return false;
}

// The deltas of the layer below, likewise.
template <class Sum>
__device__ __forceinline__ bool backward_block(Room& staged, u32 k, const number* memory,
                                               const number* z, number* d, u32 n, RoundingKey t) {
  if constexpr (TILED && !Sum::EXACT) {
    if (layers[k].backward_tiles) {
      each_tile<MIDDLE>(layers[k].fan_in, n, [&](u32 at) {
        backward_by_tiles<Sum, MIDDLE>(staged, at, k, memory, z, d, n, t);
      });
      return true;
    }
  }
  return false;
}

// The gradients and updates of the weights, likewise; how many weights have descended.
template <class Sum>
__device__ __forceinline__ u32 descend_block(Room& staged, u32 k, number* memory, const number* h,
                                             const number* d, u32 n, RoundingKey t, number rate) {
  if constexpr (TILED && !Sum::EXACT) {
    if (layers[k].batch_tiles) {
      each_tile<MIDDLE>(layers[k].fan_out, layers[k].fan_in, [&](u32 at) {
        descend_by_tiles<Sum, MIDDLE>(staged, at, k, memory, h, d, n, t, rate);
      });
      return layers[k].fan_in * layers[k].fan_out;
    }
  }
  return 0;
}

// `steps` mini-batches of n of each model, a block a model (blockIdx.y): for models that one
// multiprocessor is enough for.  unit_plans: of the layers' sums over units, one after another; table
// (LAYERS, 2, 3): where that of a layer begins, forward and backward, its length and its partial sums.
// rates (many): of each step, or one of all.
extern "C" __global__ void __launch_bounds__(512)
    train_block(number* memory, const u32* rows, u64 row_stride, u64 first, u32 words, number* z,
                number* h, number* d, u32* masks, u32 n, const int2* unit_plans, const u32* table,
                const int2* plans, u32 count, u32 index, u32 length, u32 slots, UnitRoom* unit_spare,
                BatchRoom* batch_spare, const u64* keys, u64 step, const number* rates, u32 many,
                u32 steps) {
  constexpr u32 LAYERS = sizeof(layers) / sizeof(Layer);
  __shared__ __align__(16) Room staged;
  const auto unit_plan = [&](u32 k, u32 back) {
    const u32* entry = table + (2 * k + back) * 3;
    return Plan{unit_plans + entry[0], entry[1], entry[2]};
  };
  for (u32 s = 0; s < steps; ++s, first += n) {
    const RoundingKey t = rounding_key(keys, step + s);
    const Plan plan = plan_of(plans, count, index + s, length, slots);
    const number rate = rates[many > 1 ? s : 0];
    for (u32 k = 0; k < LAYERS; ++k) {
      with_forward(k, [&](auto empty) {
        using Sum = decltype(empty);
        if (!forward_block<Sum>(staged, k, memory, z, h, n, t)) {
          forward_layer<Sum>(k, memory, rows, row_stride, first, words, z, h, n, unit_plan(k, 0),
                             unit_spare, t);
        }
      });
      __syncthreads();
    }
    output_layer(rows, row_stride, first, words, z, d, masks, n, t);
    __syncthreads();
    for (u32 k = LAYERS; k-- > 0;) {
      if (k > 0) {
        with_backward(k, [&](auto empty) {
          using Sum = decltype(empty);
          if (!backward_block<Sum>(staged, k, memory, z, d, n, t)) {
            backward_layer<Sum>(k, memory, z, d, n, unit_plan(k, 1), unit_spare, t);
          }
        });
        __syncthreads();
      }
      with_batch(k, [&](auto empty) {
        using Sum = decltype(empty);
        const u32 done = descend_block<Sum>(staged, k, memory, h, d, n, t, rate);
        descend_layer<Sum>(k, memory, rows, row_stride, first, words, h, d, masks, n, plan,
                           batch_spare, t, rate, done);
      });
    }
    __syncthreads();
  }
}
