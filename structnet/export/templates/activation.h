{# What makes an activation of a sum, where that is more than an expression. #}
{% if integers and (activation == "relu" or has_means) %}
/* The code of max(0, sum). */
static inline uint8_t {{ name }}_relu(int32_t sum, {{ wide }} multiplier, unsigned shift)
{
    {{ wide }} code;

    if (sum <= 0)
        return 0;
    code = (sum * multiplier + (({{ wide }})1 << (shift - 1))) >> shift;
    return code > 255 ? 255 : (uint8_t)code;
}
{% endif %}
{% if integers and activation == "srelu" %}
/* The code of a sum that rises with other slopes below left and above right. */
static inline uint8_t {{ name }}_srelu(int32_t sum, int32_t left, int32_t right, int32_t below, int32_t above,
                                       int32_t multiplier, unsigned shift, int32_t zero)
{
    int64_t code = sum * (int64_t){{ 2 ** bits }};

    if (sum < left)
        code += below * ((int64_t)sum - left);
    if (sum > right)
        code += above * ((int64_t)sum - right);
    shift += {{ bits }};
    code = code * multiplier + ((int64_t)zero << shift) + ((int64_t)1 << (shift - 1));
    if (code <= 0)
        return 0;
    code >>= shift;
    return code > 255 ? 255 : (uint8_t)code;
}
{% elif integers and activation != "relu" %}
/* The code of the sigmoid, by lines between the entries of its table. */
static inline uint8_t {{ name }}_curve(int32_t sum, {{ wide }} multiplier, unsigned shift)
{
    {{ wide }} place = ((sum < 0 ? -sum : sum) * multiplier) >> shift;
    const uint16_t *entry;
    int32_t code;

    if (place > {{ last_place }})
        place = {{ last_place }};
    entry = {{ name }}_sigmoid + (place >> 8);
    code = entry[0] * (int32_t)256 + ((int32_t)entry[1] - entry[0]) * (int32_t)(place & 255);
    code = (code + 32768) >> 16;
    return (uint8_t)(sum < 0 ? 255 - code : code);
}
{% elif activation == "srelu" %}
/* The identity between two thresholds, and slopes of its own outside; shape: left, slope, right, slope. */
static inline float {{ name }}_srelu(float sum, const float *shape)
{
    if (sum >= shape[2])
        return shape[2] + shape[3] * (sum - shape[2]);
    return sum < shape[0] ? shape[0] + shape[1] * (sum - shape[0]) : sum;
}
{% endif %}
