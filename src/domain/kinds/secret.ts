import { z } from 'zod'
import { LIMITS } from '../limits.ts'
import { isObject } from '../placed-problem.ts'
import { defineKind, READY } from './kind.ts'

/** What stands where a value would: the keys are told, the values never. */
export const HIDDEN = '(hidden)'

export const secretKind = defineKind({
  kind: 'Secret',
  plural: 'secrets',
  shortNames: ['sec'],
  summary: 'Values that steps name and nobody reads back.',
  spec: z.strictObject({
    data: z
      .record(
        z.string().regex(/^[A-Za-z0-9._-]{1,253}$/, { error: 'is no key of a secret: letters, digits, . _ and -' }),
        z
          .string({ error: 'must be a string; quote it' })
          .refine((text) => Buffer.byteLength(text) <= LIMITS.secretValueBytes, {
            error: `is longer than ${LIMITS.secretValueBytes} bytes`,
          })
          .refine((text) => text !== HIDDEN, {
            error: `${HIDDEN} is what get shows instead of a value; write the value`,
          }),
        { error: 'must be a map of keys to values' },
      )
      .refine((data) => Object.keys(data).length > 0, { error: 'has no keys' })
      .refine((data) => Object.keys(data).length <= LIMITS.secretKeysMax, {
        error: `has more than ${LIMITS.secretKeysMax} keys`,
      })
      .describe('Keys and their values. They are sealed before they are stored, and nobody reads them back.'),
  }),
  isSealed: true,
  columns: [{ title: 'KEYS', align: 'right', text: ({ spec }) => String(Object.keys(spec['data'] ?? {}).length) }],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
  present: (spec) => ({
    data: Object.fromEntries(Object.keys(isObject(spec['data']) ? spec['data'] : {}).map((key) => [key, HIDDEN])),
  }),
})
