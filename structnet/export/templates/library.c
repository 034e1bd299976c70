#include "{{ name }}.h"

void logits_of(const {{ raw }} *raw, size_t count, {{ sum }} *logits);
int class_of(const {{ raw }} *raw);
const char *name_of(int number);

void logits_of(const {{ raw }} *raw, size_t count, {{ sum }} *logits)
{
    for (; count > 0; count--, raw += {{ upper }}_INPUTS, logits += {{ upper }}_CLASSES)
        {{ name }}_logits(raw, logits);
}

int class_of(const {{ raw }} *raw)
{
    return {{ name }}_predict(raw);
}

const char *name_of(int number)
{
    return {{ name }}_classes[number];
}
