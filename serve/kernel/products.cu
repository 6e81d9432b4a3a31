// Products with stored weights, and moves, float32. Every sum goes up in k, one fused multiplication and addition after the
// other, whatever the tile: a row's bits depend on its values and on nothing beside them.

#define DEPTH 16

// Where rows of numbers lie: row m begins at (m / inner) * outer_step + (m % inner) * inner_step.
struct Places {
    int inner;
    long long outer_step, inner_step;
};

// Read what a thread brings of a tile of `from` [count, I]: VECTORS times four numbers of a row, zero outside.
template <int VECTORS, int THREADS>
__device__ __forceinline__ void fetch(
    float4 (&held)[VECTORS], const float* from, const long long (&begin)[VECTORS], int k, int I) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int to = k + (threadIdx.x + v * THREADS) % (DEPTH / 4) * 4;
        const float* source = from + begin[v] + to;
        held[v] = make_float4(0, 0, 0, 0);
        if (begin[v] < 0) continue;
        if ((I & 3) == 0) {
            if (to < I) held[v] = *reinterpret_cast<const float4*>(source);
        } else {
            if (to + 0 < I) held[v].x = source[0];
            if (to + 1 < I) held[v].y = source[1];
            if (to + 2 < I) held[v].z = source[2];
            if (to + 3 < I) held[v].w = source[3];
        }
    }
}

// Where the rows begin of which a thread brings something; below zero: outside.
template <int VECTORS, int THREADS>
__device__ __forceinline__ void find(long long (&begin)[VECTORS], int first, int count, const Places places) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int row = first + (threadIdx.x + v * THREADS) / (DEPTH / 4);
        begin[v] = row < count ? row / places.inner * places.outer_step + row % places.inner * places.inner_step : -1;
    }
}

template <int VECTORS, int THREADS, int WIDE>
__device__ __forceinline__ void put(const float4 (&held)[VECTORS], float (&into)[DEPTH][WIDE]) {
#pragma unroll
    for (int v = 0; v < VECTORS; v++) {
        const int at = threadIdx.x + v * THREADS, row = at / (DEPTH / 4), k = at % (DEPTH / 4) * 4;
        into[k + 0][row] = held[v].x;
        into[k + 1][row] = held[v].y;
        into[k + 2][row] = held[v].z;
        into[k + 3][row] = held[v].w;
    }
}

// z [M, N] = x [M, I], its rows as placed, times w [N, I] transposed, plus b [N]; a thread computes EACH times EACH sums.
template <int TILE, int EACH>
__device__ __forceinline__ void multiply(
    const float* x, const Places places, const float* w, const float* b, float* z, int M, int I, int N) {
    constexpr int ACROSS = TILE / EACH, THREADS = ACROSS * ACROSS, VECTORS = TILE * DEPTH / 4 / THREADS;
    constexpr int QUADS = EACH / 4, APART = TILE / QUADS;
    __shared__ float part_x[2][DEPTH][TILE + 4], part_w[2][DEPTH][TILE + 4];
    const int first_m = blockIdx.y * TILE, first_n = blockIdx.x * TILE;
    const int own_m = threadIdx.x / ACROSS * 4, own_n = threadIdx.x % ACROSS * 4;
    float4 held_x[VECTORS], held_w[VECTORS];
    float sum[EACH][EACH] = {};
    long long begin_x[VECTORS], begin_w[VECTORS];
    find<VECTORS, THREADS>(begin_x, first_m, M, places);
    find<VECTORS, THREADS>(begin_w, first_n, N, Places{1, I, 0});
    fetch<VECTORS, THREADS>(held_x, x, begin_x, 0, I);
    fetch<VECTORS, THREADS>(held_w, w, begin_w, 0, I);
    for (int k0 = 0, turn = 0; k0 < I; k0 += DEPTH, turn ^= 1) {
        put<VECTORS, THREADS>(held_x, part_x[turn]);
        put<VECTORS, THREADS>(held_w, part_w[turn]);
        __syncthreads();
        if (k0 + DEPTH < I) {
            fetch<VECTORS, THREADS>(held_x, x, begin_x, k0 + DEPTH, I);
            fetch<VECTORS, THREADS>(held_w, w, begin_w, k0 + DEPTH, I);
        }
#pragma unroll
        for (int k = 0; k < DEPTH; k++) {
            float4 left[QUADS], right[QUADS];
#pragma unroll
            for (int quad = 0; quad < QUADS; quad++) {
                left[quad] = *reinterpret_cast<const float4*>(&part_x[turn][k][quad * APART + own_m]);
                right[quad] = *reinterpret_cast<const float4*>(&part_w[turn][k][quad * APART + own_n]);
            }
#pragma unroll
            for (int m = 0; m < EACH; m++)
#pragma unroll
                for (int n = 0; n < EACH; n++)
                    sum[m][n] = fmaf((&left[m / 4].x)[m % 4], (&right[n / 4].x)[n % 4], sum[m][n]);
        }
    }
#pragma unroll
    for (int i = 0; i < EACH; i++)
#pragma unroll
        for (int j = 0; j < EACH; j++) {
            const int m = first_m + i / 4 * APART + own_m + i % 4, n = first_n + j / 4 * APART + own_n + j % 4;
            if (m < M && n < N) z[(size_t)m * N + n] = sum[i][j] + b[n];
        }
}

extern "C" __global__ void __launch_bounds__(256) project_few(
    const float* x, const Places places, const float* w, const float* b, float* z, int M, int I, int N) {
    multiply<64, 4>(x, places, w, b, z, M, I, N);
}

extern "C" __global__ void __launch_bounds__(256) project_many(
    const float* x, const Places places, const float* w, const float* b, float* z, int M, int I, int N) {
    multiply<128, 8>(x, places, w, b, z, M, I, N);
}

// [A, B, C] to [B, A, C].
extern "C" __global__ void __launch_bounds__(256) swap(const float* from, float* to, int A, int B, int C) {
    const size_t count = (size_t)A * B * C, stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < count; at += stride) {
        const size_t c = at % C, pair = at / C, a = pair % A, b = pair / A;
        to[at] = from[(a * B + b) * C + c];
    }
}

// Rows of a state tensor [L, rows, H] by number, to or from another of its kind.
extern "C" __global__ void __launch_bounds__(256) move(
    const float* from, float* to, const int* taken, const int* put, int L, int count, int from_rows, int to_rows, int H) {
    const size_t all = (size_t)L * count * H, stride = (size_t)gridDim.x * blockDim.x;
    for (size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x; at < all; at += stride) {
        const size_t h = at % H, row = at / H % count, layer = at / H / count;
        to[(layer * to_rows + put[row]) * H + h] = from[(layer * from_rows + taken[row]) * H + h];
    }
}
