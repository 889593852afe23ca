/* SMA crossover, long or flat, one pair of windows after the other: the rules of docs/benchmarks.md in plain C.
 *
 * cc -O3 -march=native -std=c11 -shared -fPIC -o OUT SOURCE -lm
 *
 * Long while the fast average is above the slow one, decided at a close and filled at the next open with all the cash
 * (a buy pays price * (1 + cost), a sale receives price * (1 - cost)); marked at each close, not sold at the end.
 * Figures over the n simple returns of the curve that begins at 1: total return, Sharpe ratio (sample deviation),
 * deepest drawdown, entries.
 */
#include <math.h>
#include <stdint.h>

typedef struct {
    double total, sharpe, drawdown;
    int64_t trades;
} figures;

static figures finish(double equity, double sum, double squares, double low, int64_t trades, int64_t n, double per_year)
{
    double mean = sum / (double)n, rest = squares - sum * mean;
    figures found = {equity - 1.0, rest > 0.0 ? mean / sqrt(rest / (double)(n - 1)) * sqrt(per_year) : NAN, 1.0 - low, trades};
    return found;
}

/* The plain loop: every bar does everything. Windows by running sums. */
static figures every_bar(const double *open, const double *close, int64_t n, int64_t fast, int64_t slow, double cost, double per_year)
{
    double cash = 1.0, shares = 0.0, previous = 1.0, peak = 1.0, low = 1.0, sum = 0.0, squares = 0.0;
    double fast_sum = 0.0, slow_sum = 0.0, fast_scale = 1.0 / (double)fast, slow_scale = 1.0 / (double)slow;
    int64_t trades = 0;
    int want = 0, held = 0;
    for (int64_t t = 0; t < n; t++) {
        if (want != held) {
            if (want) {
                shares = cash / (open[t] * (1.0 + cost));
                cash = 0.0;
                trades++;
            } else {
                cash = shares * open[t] * (1.0 - cost);
                shares = 0.0;
            }
            held = want;
        }
        double equity = cash + shares * close[t];
        double r = equity / previous - 1.0;
        previous = equity;
        sum += r;
        squares += r * r;
        if (equity > peak) peak = equity;
        double part = equity / peak;
        if (part < low) low = part;
        fast_sum += close[t];
        slow_sum += close[t];
        if (t >= fast) fast_sum -= close[t - fast];
        if (t >= slow) slow_sum -= close[t - slow];
        if (t >= slow - 1) want = fast_sum * fast_scale > slow_sum * slow_scale;
    }
    return finish(previous, sum, squares, low, trades, n, per_year);
}

/* The best of it: flat bars only look at the averages, held bars divide only where a drawdown deepens. */
static figures at_crossings(const double *open, const double *close, const double *returns, int64_t n, int64_t fast, int64_t slow,
                            double cost, double per_year)
{
    double cash = 1.0, shares = 0.0, equity = 1.0, peak = 1.0, low = 1.0, sum = 0.0, squares = 0.0;
    double fast_sum = 0.0, slow_sum = 0.0, fast_scale = 1.0 / (double)fast, slow_scale = 1.0 / (double)slow;
    int64_t trades = 0, t = 0;
    for (; t < slow && t < n; t++) {
        slow_sum += close[t];
        fast_sum += close[t];
        if (t >= fast) fast_sum -= close[t - fast];
    }
    while (t < n) {
        while (t < n && !(fast_sum * fast_scale > slow_sum * slow_scale)) {
            fast_sum += close[t] - close[t - fast];
            slow_sum += close[t] - close[t - slow];
            t++;
        }
        if (t >= n) break;
        shares = cash / (open[t] * (1.0 + cost));
        trades++;
        double r = shares * close[t] / equity - 1.0;
        for (;;) {
            equity = shares * close[t];
            sum += r;
            squares += r * r;
            if (equity > peak) peak = equity;
            if (equity < low * peak) low = equity / peak;
            fast_sum += close[t] - close[t - fast];
            slow_sum += close[t] - close[t - slow];
            t++;
            if (t >= n || !(fast_sum * fast_scale > slow_sum * slow_scale)) break;
            r = returns[t];
        }
        if (t >= n) break;
        cash = shares * open[t] * (1.0 - cost);
        r = cash / equity - 1.0;
        equity = cash;
        sum += r;
        squares += r * r;
        if (equity > peak) peak = equity;
        if (equity < low * peak) low = equity / peak;
        fast_sum += close[t] - close[t - fast];
        slow_sum += close[t] - close[t - slow];
        t++;
    }
    return finish(equity, sum, squares, low, trades, n, per_year);
}

static void keep(figures found, int64_t p, double *total, double *sharpe, double *drawdown, int64_t *trades)
{
    total[p] = found.total;
    sharpe[p] = found.sharpe;
    drawdown[p] = found.drawdown;
    trades[p] = found.trades;
}

void sweep(const double *open, const double *close, int64_t n, const int64_t *fast, const int64_t *slow, int64_t pairs, double cost,
           double per_year, double *total, double *sharpe, double *drawdown, int64_t *trades)
{
    for (int64_t p = 0; p < pairs; p++)
        keep(every_bar(open, close, n, fast[p], slow[p], cost, per_year), p, total, sharpe, drawdown, trades);
}

/* returns [n] is room to work in. */
void sweep_at_crossings(const double *open, const double *close, int64_t n, const int64_t *fast, const int64_t *slow, int64_t pairs,
                        double cost, double per_year, double *returns, double *total, double *sharpe, double *drawdown, int64_t *trades)
{
    returns[0] = 0.0;
    for (int64_t t = 1; t < n; t++) returns[t] = close[t] / close[t - 1] - 1.0;
    for (int64_t p = 0; p < pairs; p++)
        keep(at_crossings(open, close, returns, n, fast[p], slow[p], cost, per_year), p, total, sharpe, drawdown, trades);
}
