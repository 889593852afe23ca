/* Sharpe ratio, Sortino ratio and deepest drawdown of many return curves, one curve after the other, in plain C.
 *
 * cc -O3 -march=native -std=c11 -shared -fPIC -o OUT SOURCE -lm
 *
 * returns [curves, n] of simple returns; Sharpe with the sample deviation, Sortino with the root mean square of the
 * losses, both times sqrt(per_year); the drawdown of the curve that begins at 1, as a positive fraction.
 */
#include <math.h>
#include <stdint.h>

void metrics(const double *returns, int64_t curves, int64_t n, double per_year, double *sharpe, double *sortino, double *drawdown)
{
    double scale = sqrt(per_year);
    for (int64_t k = 0; k < curves; k++) {
        const double *r = returns + k * n;
        double sum = 0.0, squares = 0.0, downside = 0.0, level = 1.0, peak = 1.0, low = 1.0;
        for (int64_t t = 0; t < n; t++) {
            double loss = r[t] < 0.0 ? r[t] : 0.0;
            sum += r[t];
            squares += r[t] * r[t];
            downside += loss * loss;
            level *= 1.0 + r[t];
            if (level > peak) peak = level;
            if (level < low * peak) low = level / peak;
        }
        double mean = sum / (double)n;
        sharpe[k] = mean / sqrt((squares - sum * mean) / (double)(n - 1)) * scale;
        sortino[k] = mean / sqrt(downside / (double)n) * scale;
        drawdown[k] = 1.0 - low;
    }
}
