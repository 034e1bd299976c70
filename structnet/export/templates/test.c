/* Compares {{ name }}.h with what the network said when it was exported: exits with 0 where they agree.
   cc -std=c99 -O2 {{ name }}_test.c -lm && ./a.out */

#include <math.h>
#include <stdio.h>

#include "{{ name }}.h"

{% for table in tables %}
{{ table }}
{% endfor %}
int main(void)
{
    {{ sum }} logits[{{ upper }}_CLASSES];
    double largest = 0, size = 0, difference;
    size_t row, at;
    int wrong = 0;

    for (row = 0; row < {{ count }}; row++) {
        const {{ sum }} *known = expected + row * {{ upper }}_CLASSES;
        size_t best = 0;

        {{ name }}_logits(raw_values + row * {{ upper }}_INPUTS, logits);
        for (at = 0; at < {{ upper }}_CLASSES; at++) {
            difference = (double)logits[at] - known[at];
            largest = difference > largest ? difference : -difference > largest ? -difference : largest;
            size = known[at] > size ? known[at] : -known[at] > size ? -known[at] : size;
            best = known[at] > known[best] ? at : best;
        }
        wrong += {{ name }}_predict(raw_values + row * {{ upper }}_INPUTS) != (int)best;
    }
    printf("{{ name }}: {{ count }} inputs, largest difference of a logit %g of %g, %d other classes\n", largest, size, wrong);
    return {{ "largest > 0" if integers else "largest > 1e-5 * (1 + size)" }} || wrong > 0;
}
