/* A book of many symbols, one session after the other: the rules of docs/benchmarks.md, *portfolio*, in plain C.
 *
 * cc -O3 -march=native -std=c11 -shared -fPIC -o OUT SOURCE -lm
 *
 * Prices [T, n] by session. Long where the fast average is above the slow one; weight = name_cap * min(1, target_vol /
 * volatility of the last vol_bars simple returns), all scaled down to gross_cap; whole shares of the equity at the
 * close. At the next open first the sales, then the purchases as far as cash goes; slippage on the price, commission on
 * the notional. equity [T] is written at each close; returns the number of fills.
 */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int64_t portfolio(const double *open, const double *close, int64_t sessions, int64_t n, int64_t fast, int64_t slow,
                  int64_t vol_bars, double cash, double name_cap, double gross_cap, double target_vol, double commission,
                  double slippage, double *equity_out)
{
    double *room = calloc((size_t)(n * (6 + vol_bars)), sizeof(double));
    double *restrict qty = room, *restrict target = qty + n, *restrict fast_sum = target + n, *restrict slow_sum = fast_sum + n;
    double *restrict sum = slow_sum + n, *restrict squares = sum + n, *restrict past = squares + n;
    double *restrict weight = malloc((size_t)n * sizeof(double));
    double fast_scale = 1.0 / (double)fast, slow_scale = 1.0 / (double)slow, sell = 1.0 - slippage;
    double each = (1.0 + slippage) * (1.0 + commission);
    int64_t fills = 0;
    for (int64_t t = 0; t < sessions; t++) {
        const double *restrict o = open + t * n, *restrict c = close + t * n;
        const double *restrict before = t > 0 ? c - n : c;
        double sales = 0.0, purchases = 0.0, spent = 0.0;
        int64_t traded = 0;
        for (int64_t i = 0; i < n; i++) {  /* no branch: which names trade is as good as random */
            double d = target[i] - qty[i];
            sales += (d < 0.0 ? -d : 0.0) * o[i];
            purchases += (d > 0.0 ? d : 0.0) * o[i];
            traded += d != 0.0;
        }
        cash += sales * sell * (1.0 - commission);
        if (purchases * each <= cash) {
            cash -= purchases * each;
            memcpy(qty, target, (size_t)n * sizeof(double));
            fills += traded;
        } else {
            for (int64_t i = 0; i < n; i++) {
                double d = target[i] - qty[i];
                if (d > 0.0 && spent + d * o[i] * each > cash) d = floor((cash - spent) / (o[i] * each));
                if (d > 0.0) spent += d * o[i] * each;
                qty[i] += d;
                fills += d != 0.0;
            }
            cash -= spent;
        }
        double equity = cash, gross = 0.0;
        for (int64_t i = 0; i < n; i++) equity += qty[i] * c[i];
        equity_out[t] = equity;
        const double *restrict fast_out = t >= fast ? c - fast * n : NULL, *restrict slow_out = t >= slow ? c - slow * n : NULL;
        double *restrict r = past + (t % vol_bars) * n;
        for (int64_t i = 0; i < n; i++) fast_sum[i] += fast_out ? c[i] - fast_out[i] : c[i];
        for (int64_t i = 0; i < n; i++) slow_sum[i] += slow_out ? c[i] - slow_out[i] : c[i];
        for (int64_t i = 0; i < n; i++) {
            double now = c[i] / before[i] - 1.0, old = r[i];
            sum[i] += now - old;
            squares[i] += now * now - old * old;
            r[i] = now;
        }
        if (t < slow - 1) continue;
        for (int64_t i = 0; i < n; i++) {
            weight[i] = 0.0;
            if (!(fast_sum[i] * fast_scale > slow_sum[i] * slow_scale)) continue;
            double rest = squares[i] - sum[i] * sum[i] / (double)vol_bars;
            double vol = sqrt((rest > 0.0 ? rest : 0.0) / (double)(vol_bars - 1) * 252.0);
            weight[i] = vol > target_vol ? name_cap * target_vol / vol : name_cap;
        }
        for (int64_t i = 0; i < n; i++) gross += weight[i];
        double part = (gross > gross_cap ? gross_cap / gross : 1.0) * equity;
        for (int64_t i = 0; i < n; i++) target[i] = (double)(int64_t)(part * weight[i] / c[i]);
    }
    free(room);
    free(weight);
    return fills;
}
