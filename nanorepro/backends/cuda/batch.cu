// What kernels share that have a lane for each example of a mini-batch of up to 32, at its place in the
// leaf order.  All of a model lies in shared memory: weights, biases and states, then what they need.
//
// In front of this text stand, of the model: LAYERS, FAN[k] (features, then units of each layer),
// WEIGHTS[k] and UNIT[k] (where the layer's weights and units begin), BIASES; BATCH, LEAF[k] (the
// term at leaf k, if no DRAWN_ORDER), SPARSE (a row without a gradient stays as it is); BatchPlan, a tree's
// instructions; UNIT_CHAIN: 1 if sums over units are chains, -1 if from the last; REAL: whether the
// features are real.

// numbers from one unit's activations to the next one's: aligned, and on other banks
constexpr int ROW = 36;
constexpr int NUMBERS = (1 + STATES) * PARAMETERS;

// M sums side by side in the order of a plan; join(k, m, partial) adds term k of sum m.
template <class Plan, int M, class Sum, class Join>
__device__ __forceinline__ void sums_by_plan(Sum (&result)[M], RoundingKey t, Join join) {
  Sum slots[Plan::SLOTS][M];
#pragma unroll
  for (int row = 0; row < Plan::LENGTH; ++row) {
    const int slot = Plan::slot(row), source = Plan::source(row);
#pragma unroll
    for (int m = 0; m < M; ++m) {
      if (source >= 0) {
        join(source, m, slots[slot][m]);
      } else {
        slots[slot][m].merge(slots[source < 0 ? ~source : 0][m], t);
        slots[source < 0 ? ~source : 0][m] = Sum();
      }
    }
  }
#pragma unroll
  for (int m = 0; m < M; ++m) result[m] = slots[0][m];
}

// The place of each lane's leaf in the mini-batch of a step.
__device__ __forceinline__ u32 leaf_of(u32 lane, u64 step, const u32* orders) {
  if constexpr (DRAWN_ORDER) {
    // lane e follows where the exchanges take term e; then each leaf asks which term came to it
    const u32 j = lane < BATCH ? exchanged(lane, step, orders + 2 * blockIdx.x) : lane;
    u32 term = lane;
#pragma unroll 1
    for (u32 i = BATCH - 1; i >= 1; --i) {
      const u32 other = __shfl_sync(ALL_LANES, j, i);
      const u32 here = __shfl_sync(ALL_LANES, term, i), there = __shfl_sync(ALL_LANES, term, other);
      term = lane == i ? there : lane == other ? here : term;
    }
    return term;
  } else {
    return lane < BATCH ? LEAF[lane] : lane;
  }
}

// What training reads of the global memory, of which the next step's is on its way while one is
// computed.  rows (models, ..., WIDTH): features, packed or REAL, and the label of each example, those of
// the models `stride` numbers apart, the `first` example is where the steps begin; rates (many): of each
// step, or one of all.
struct Incoming {
  static constexpr int WIDTH = REAL ? FAN[0] + 1 : 2;
  const u32 *rows, *orders;
  const number* rates;
  u32 many, leaf;
  u64 step;
  u32 example[WIDTH];  // of the lane, at its place in the leaf order; none of lanes beyond the mini-batch
  number rate;

  __device__ __forceinline__ Incoming(const u32* all, u64 stride, u64 first, const u32* orders,
                                      const number* rates, u32 many, u64 step)
      : rows(all + blockIdx.x * stride + first * WIDTH), orders(orders), rates(rates), many(many),
        leaf(DRAWN_ORDER ? 0 : leaf_of(threadIdx.x % 32, step, orders)), step(step), example{} {}

  // What step s of the launch needs.
  __device__ __forceinline__ void fetch(u32 s, u32 lane) {
    rate = rates[many > 1 ? s : 0];
    if (DRAWN_ORDER) leaf = leaf_of(lane, step + s, orders);
    if (lane >= BATCH) return;
    const u32* mine = rows + ((u64)s * BATCH + leaf) * WIDTH;
    if constexpr (REAL) {
#pragma unroll
      for (int k = 0; k < WIDTH; ++k) example[k] = mine[k];
    } else {
      const u64 both = *reinterpret_cast<const u64*>(mine);
      example[0] = (u32)both;
      example[1] = (u32)(both >> 32);
    }
  }

  __device__ __forceinline__ number label() const { return (number)example[WIDTH - 1]; }
};
