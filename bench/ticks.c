/* Trades to volume bars, in plain C: the rules of tradecore.ticks, prices in 1e-4 USD, sizes in 1e-6 shares.
 *
 * cc -O3 -march=native -std=c11 -shared -fPIC -o OUT SOURCE -lm
 *
 * A bar ends with the trade that brings its quantity to the threshold. Writes columns of `bars` [9, room] and returns how
 * many; the money of a trade is rounded half up to 1e-4 USD.
 */
#include <stdint.h>

int64_t ticks(const int64_t *at, const int64_t *price, const int64_t *qty, int64_t n, int64_t threshold, int64_t *bars,
              int64_t room)
{
    int64_t filled = 0, begin = 0, open = 0, high = 0, low = 0, quantity = 0, value = 0, trades = 0;
    for (int64_t i = 0; i < n; i++) {
        int64_t p = price[i], q = qty[i];
        if (trades == 0) {
            if (filled == room)
                break;
            begin = at[i];
            open = high = low = p;
            quantity = value = 0;
        }
        if (p > high)
            high = p;
        if (p < low)
            low = p;
        quantity += q;
        value += (int64_t)(((__int128)p * q + 500000) / 1000000);
        trades++;
        if (quantity >= threshold) {
            int64_t row[9] = {begin, at[i], open, high, low, p, quantity, value, trades};
            for (int k = 0; k < 9; k++)
                bars[k * room + filled] = row[k];
            filled++;
            trades = 0;
        }
    }
    return filled;
}
