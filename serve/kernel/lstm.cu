// The recurrence of an LSTM layer, float32: it walks through the steps with the recurrent weights in its registers. What
// the inputs contribute, the products of `products.cu` have computed for all steps before. NVRTC compiles this file at
// start for one hidden size (macros below) and the GPU at hand; `kernel_plan.py` chooses the sizes and explains them.
//
// Two promises that cuDNN does not make: a row's bits do not depend on the rows beside it, for every sum is taken in an
// order that only the sizes of the layer decide; and a row costs nothing after its last step, for rows end one by one.
//
// HIDDEN    H
// PADDED    H rounded up to SEGMENTS * 4 numbers or a multiple of it; weights and h beyond H are zero
// SEGMENTS  threads that share one hidden unit, each with PADDED / SEGMENTS weights of each of its four gates
// UNITS     hidden units of a block, a multiple of 8; those beyond H are idle
// MEMBERS   blocks of a group: together they hold all of R
// TILE      rows that are computed between two meetings of a block's threads; TILE * UNITS <= THREADS
// THREADS   of a block: UNITS * SEGMENTS

#define VECTORS (PADDED / SEGMENTS / 4)
#define PARTS (SEGMENTS / 4)  // a warp is 8 units times 4 segments, so that it reads little h; the parts meet in memory

typedef unsigned long long Tagged;  // an h, and above it the number of the step that it is the state before

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// Sum four values over four lanes; a lane returns that of gate 2 * (lane & 1) + (lane >> 1 & 1).
__device__ __forceinline__ float reduce(const float (&sum)[4]) {
    const bool odd = threadIdx.x & 1, second = threadIdx.x & 2;
    float keep0 = odd ? sum[2] : sum[0], keep1 = odd ? sum[3] : sum[1];
    keep0 += __shfl_xor_sync(0xffffffffu, odd ? sum[0] : sum[2], 1);
    keep1 += __shfl_xor_sync(0xffffffffu, odd ? sum[1] : sum[3], 1);
    return (second ? keep1 : keep0) + __shfl_xor_sync(0xffffffffu, second ? keep0 : keep1, 2);
}

// How the blocks of a group exchange h. Few rows: value and tag are one word of 64 bits, which is written and read as a
// whole; whoever sees the tag has the value, and no block waits for another in any other way. Many rows: plain numbers,
// half as much to read, and the blocks meet once a step. Two halves are enough for both: who has every h of a step knows
// that all members have read those of the step before.
__device__ __forceinline__ void publish(Tagged* to, float value, unsigned tag) {
    const Tagged word = (Tagged)tag << 32 | __float_as_uint(value);
    asm volatile("st.relaxed.gpu.global.b64 [%0], %1;" ::"l"(to), "l"(word) : "memory");
}

__device__ __forceinline__ float2 await(const Tagged* from, unsigned tag, bool both) {
    Tagged first, second;
    do {
        asm volatile("ld.relaxed.gpu.global.v2.b64 {%0, %1}, [%2];" : "=l"(first), "=l"(second) : "l"(from) : "memory");
    } while ((unsigned)(first >> 32) != tag || (both && (unsigned)(second >> 32) != tag));
    return make_float2(__uint_as_float((unsigned)first), both ? __uint_as_float((unsigned)second) : 0.0f);
}

__device__ __forceinline__ void meet(unsigned* arrivals, unsigned goal) {
    __syncthreads();
    if (threadIdx.x == 0) {
        unsigned seen;
        asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(arrivals) : "memory");
        do {
            asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(arrivals) : "memory");
        } while (seen < goal);
    }
    __syncthreads();
}

// Begin to copy rows of plain h into shared memory.
__device__ __forceinline__ void begin_copy(float4* into, const float* from, int count) {
    const unsigned to = (unsigned)__cvta_generic_to_shared(into);
    for (int at = threadIdx.x; at < count * (PADDED / 4); at += THREADS)
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + at * 16), "l"(from + at * 4) : "memory");
    asm volatile("cp.async.commit_group;" ::: "memory");
}

__device__ __forceinline__ void end_copy() { asm volatile("cp.async.wait_all;" ::: "memory"); }

struct Rows {
    const float* z;      // [steps, B, 4H] of the inputs, gates i, o, f, c
    const float* r;      // [4H, H] in that order
    const float* h0;     // [B, H], or null for zeros
    const float* c0;
    float* y;            // [steps, B, H], or null; steps at and after a row's length are not written
    float* h_n;          // [B, H]
    float* c_n;
    const int* order;    // [B] rows by falling length
    const int* lengths;  // [B] in that order, of the whole sequence
    Tagged* tagged;      // [2, groups * rows_each, PADDED]; null: there are many rows
    float* plain;        // likewise, zero where no unit is
    unsigned* arrivals;  // [groups], zero
    int B;
    int first_step;      // of the sequence, of which this launch does `steps`
    int steps;
    int groups;
    int rows_each;       // most rows of a group
    unsigned tag;        // of the first step; those of no two launches over the same memory are equal
};

// Compute R times h of COUNT rows, and leave the parts of the sums to whoever computes the gates.
template <int COUNT>
__device__ __forceinline__ void recur(
    const float4 (&weight)[4][VECTORS], const float4* h, float4* sums, int segment, int own) {
    float sum[COUNT][4] = {};
#pragma unroll
    for (int j = 0; j < VECTORS; j++)
#pragma unroll
        for (int row = 0; row < COUNT; row++) {
            const float4 a = h[row * (PADDED / 4) + j * SEGMENTS + segment];
#pragma unroll
            for (int gate = 0; gate < 4; gate++) {
                const float4 w = weight[gate][j];
                float& to = sum[row][gate];
                to = fmaf(w.w, a.w, fmaf(w.z, a.z, fmaf(w.y, a.y, fmaf(w.x, a.x, to))));
            }
        }
    const int gate = 2 * (segment & 1) + (segment >> 1 & 1);
#pragma unroll
    for (int row = 0; row < COUNT; row++)
        reinterpret_cast<float*>(sums + ((segment / 4) * TILE + row) * UNITS + own)[gate] = reduce(sum[row]);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) advance(const Rows rows) {
    extern __shared__ float4 shared[];
    const bool many = MEMBERS > 1 && !rows.tagged;
    const int resident = MEMBERS == 1 ? rows.rows_each : many ? 2 * TILE : TILE;  // rows whose h is in shared memory
    float4* h_rows = shared;                                                      // [resident, PADDED / 4]
    float4* sums = h_rows + resident * (PADDED / 4);                              // [PARTS, TILE, UNITS]
    float* cell = reinterpret_cast<float*>(sums + PARTS * TILE * UNITS);          // [rows_each, UNITS]
    int* length = reinterpret_cast<int*>(cell + rows.rows_each * UNITS);          // [rows_each] in this launch
    int* number = length + rows.rows_each;                                        // [rows_each] of the row

    const int group = blockIdx.x / MEMBERS, first_unit = blockIdx.x % MEMBERS * UNITS;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int own = warp % (UNITS / 8) * 8 + lane / 4, segment = warp / (UNITS / 8) * 4 + lane % 4;
    const int gate_row = threadIdx.x / UNITS, gate_unit = threadIdx.x % UNITS, unit = first_unit + gate_unit;
    const bool gates = gate_row < TILE && unit < HIDDEN;  // this thread computes those of one row and unit of a tile
    const int count = (rows.B - group + rows.groups - 1) / rows.groups;
    const size_t half = (size_t)rows.groups * rows.rows_each * PADDED, begin = (size_t)group * rows.rows_each * PADDED;
    unsigned goal = MEMBERS;

    float4 weight[4][VECTORS];
#pragma unroll
    for (int gate = 0; gate < 4; gate++)
#pragma unroll
        for (int j = 0; j < VECTORS; j++) {
            const int row = first_unit + own, k = (j * SEGMENTS + segment) * 4;
            const float* from = rows.r + ((size_t)gate * HIDDEN + row) * HIDDEN + k;
            weight[gate][j].x = row < HIDDEN && k + 0 < HIDDEN ? from[0] : 0.0f;
            weight[gate][j].y = row < HIDDEN && k + 1 < HIDDEN ? from[1] : 0.0f;
            weight[gate][j].z = row < HIDDEN && k + 2 < HIDDEN ? from[2] : 0.0f;
            weight[gate][j].w = row < HIDDEN && k + 3 < HIDDEN ? from[3] : 0.0f;
        }
    for (int at = threadIdx.x; at < resident * (PADDED / 4); at += THREADS) h_rows[at] = make_float4(0, 0, 0, 0);
    for (int place = threadIdx.x; place < count; place += THREADS) {
        length[place] = min(max(rows.lengths[place * rows.groups + group] - rows.first_step, 0), rows.steps);
        number[place] = rows.order[place * rows.groups + group];
    }
    __syncthreads();

    // Give h of a row and unit to all that need it: the state before a step.
    const auto hand_over = [&](int place, int of, float h, int step) {
        const size_t at = begin + (step & 1 ? half : 0) + (size_t)place * PADDED + of;
        if (MEMBERS == 1)
            reinterpret_cast<float*>(h_rows)[place * PADDED + of] = h;
        else if (many)
            __stcg(rows.plain + at, h);
        else
            publish(rows.tagged + at, h, rows.tag + step);
    };
    for (int item = threadIdx.x; item < count * UNITS; item += THREADS) {
        const int place = item / UNITS, of = first_unit + item % UNITS;
        if (of >= HIDDEN) continue;
        const size_t at = (size_t)number[place] * HIDDEN + of;
        const float h = rows.h0 ? rows.h0[at] : 0.0f, c = rows.c0 ? rows.c0[at] : 0.0f;
        cell[item] = c;
        hand_over(place, of, h, 0);
        if (length[place] == 0) {
            rows.h_n[at] = h;
            rows.c_n[at] = c;
        }
    }
    int active = count;
    const int last = count > 0 ? length[0] : 0;
    for (int step = 0; step < last; step++) {
        while (length[active - 1] <= step) active--;
        const size_t from = begin + (step & 1 ? half : 0);
        if (many) {
            meet(rows.arrivals + group, goal);
            goal += MEMBERS;
            begin_copy(h_rows, rows.plain + from, min(TILE, active));
        }
        for (int first = 0, turn = 0; first < active; first += TILE, turn ^= 1) {
            const int here = min(TILE, active - first), place = first + gate_row;
            const bool computes = gates && gate_row < here;
            const size_t at = computes ? (size_t)step * rows.B + number[place] : 0;
            float z[4];  // on their way while h is awaited
#pragma unroll
            for (int gate = 0; gate < 4; gate++)
                z[gate] = computes ? rows.z[(at * 4 + gate) * HIDDEN + unit] : 0.0f;
            const float4* h = h_rows + (MEMBERS == 1 ? first : many ? turn * TILE : 0) * (PADDED / 4);
            if (many) {
                end_copy();
            } else if (MEMBERS > 1) {
                constexpr int PAIRS = (HIDDEN + 1) / 2;
                float2* into = reinterpret_cast<float2*>(h_rows);
                for (int item = threadIdx.x; item < here * PAIRS; item += THREADS) {
                    const int row = item / PAIRS, pair = item % PAIRS;
                    const Tagged* source = rows.tagged + from + (size_t)(first + row) * PADDED + 2 * pair;
                    into[row * (PADDED / 2) + pair] = await(source, rows.tag + step, 2 * pair + 1 < HIDDEN);
                }
            }
            __syncthreads();
            if (many && first + TILE < active) {  // the next tile comes while this one is computed
                const float* next = rows.plain + from + (size_t)(first + TILE) * PADDED;
                begin_copy(h_rows + (turn ^ 1) * TILE * (PADDED / 4), next, min(TILE, active - first - TILE));
            }
            int row = 0;
            for (; row + 1 < here; row += 2) recur<2>(weight, h + row * (PADDED / 4), sums + row * UNITS, segment, own);
            if (row < here) recur<1>(weight, h + row * (PADDED / 4), sums + row * UNITS, segment, own);
            __syncthreads();
            if (computes) {
                float4 sum = sums[gate_row * UNITS + gate_unit];
#pragma unroll
                for (int part = 1; part < PARTS; part++) {
                    const float4 more = sums[(part * TILE + gate_row) * UNITS + gate_unit];
                    sum.x += more.x, sum.y += more.y, sum.z += more.z, sum.w += more.w;
                }
                const float i = sigmoid(sum.x + z[0]), o = sigmoid(sum.y + z[1]), f = sigmoid(sum.z + z[2]);
                const float c = f * cell[place * UNITS + gate_unit] + i * tanhf(sum.w + z[3]), new_h = o * tanhf(c);
                hand_over(place, unit, new_h, step + 1);
                cell[place * UNITS + gate_unit] = c;
                if (rows.y) rows.y[at * HIDDEN + unit] = new_h;
                if (step + 1 == length[place]) {
                    rows.h_n[(size_t)number[place] * HIDDEN + unit] = new_h;
                    rows.c_n[(size_t)number[place] * HIDDEN + unit] = c;
                }
            }
            if (MEMBERS == 1) __syncthreads();
        }
    }
}
