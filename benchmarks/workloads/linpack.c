/* Floating point: a dense system of linear equations, solved by LU with partial pivoting, and the solution
 * checked, as Linpack does. linpack [SECONDS [ORDER]] */
#include "common.h"

#include <math.h>

#define LARGEST 2000

static int order = 500;
static double *original, *matrix, *right, *solution;

static double *allocate(size_t count)
{
    double *values = aligned_alloc(64, (count * sizeof *values + 63) / 64 * 64);
    if (!values)
        fail("linpack");
    return values;
}

static void swap_rows(int a, int b)
{
    for (int j = 0; j < order; j++) {
        double kept = matrix[a * order + j];
        matrix[a * order + j] = matrix[b * order + j];
        matrix[b * order + j] = kept;
    }
    double kept = solution[a];
    solution[a] = solution[b];
    solution[b] = kept;
}

static void solve(void)
{
    memcpy(matrix, original, (size_t)order * order * sizeof *matrix);
    memcpy(solution, right, (size_t)order * sizeof *solution);
    for (int k = 0; k < order; k++) {
        int pivot = k;
        for (int i = k + 1; i < order; i++)
            if (fabs(matrix[i * order + k]) > fabs(matrix[pivot * order + k]))
                pivot = i;
        if (pivot != k)
            swap_rows(k, pivot);
        for (int i = k + 1; i < order; i++) {
            double factor = matrix[i * order + k] / matrix[k * order + k];
            double *row = matrix + (size_t)i * order, *with = matrix + (size_t)k * order;
            for (int j = k + 1; j < order; j++)
                row[j] -= factor * with[j];
            solution[i] -= factor * solution[k];
        }
    }
    for (int i = order - 1; i >= 0; i--) {
        for (int j = i + 1; j < order; j++)
            solution[i] -= matrix[i * order + j] * solution[j];
        solution[i] /= matrix[i * order + i];
    }
}

static void solving(long count)
{
    while (count--)
        solve();
}

/* As Linpack has it: below 16 or so the solution is as good as the arithmetic is. */
static double residual(void)
{
    double worst = 0, norm_a = 0, norm_x = 0;
    for (int i = 0; i < order; i++) {
        double sum = -right[i], row = 0;
        for (int j = 0; j < order; j++) {
            sum += original[(size_t)i * order + j] * solution[j];
            row += fabs(original[(size_t)i * order + j]);
        }
        worst = fmax(worst, fabs(sum));
        norm_a = fmax(norm_a, row);
        norm_x = fmax(norm_x, fabs(solution[i]));
    }
    return worst / (norm_a * norm_x * order * 2.220446049250313e-16);
}

int main(int count, char **words)
{
    double seconds = argument(count, words, 1);
    if (count > 2)
        order = atoi(words[2]);
    if (order < 2 || order > LARGEST)
        end(1, words[0], "an order is 2 to 2000");
    original = allocate((size_t)order * order), matrix = allocate((size_t)order * order);
    right = allocate(order), solution = allocate(order);
    uint64_t random = 1;
    for (int i = 0; i < order * order; i++)
        original[i] = (double)(int64_t)next_random(&random) / 9223372036854775808.0;
    for (int i = 0; i < order; i++)
        right[i] = (double)(int64_t)next_random(&random) / 9223372036854775808.0;
    double operations = 2.0 / 3.0 * order * order * order + 2.0 * order * order;
    told("linpack", operations / one_of(solving, seconds) / 1e9, "GFLOP/s");
    double off = residual();
    told("residual", off, "eps");
    if (!(off < 16))
        end(1, words[0], "the solution is wrong");
    return 0;
}
