import { stringify } from 'yaml'

// No line breaks inside texts: what is compared and edited line by line must not change when the width does.
const YAML = { lineWidth: 0 } as const

export const yamlOf = (value: unknown): string => stringify(value, YAML)
