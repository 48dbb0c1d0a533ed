import { z } from 'zod'
import { LIMITS } from '../domain/limits.ts'

/** A number as a query writes it. */
export const numberText = (min: number, max: number) =>
  z
    .string()
    .regex(/^\d{1,15}$/, 'must be a whole number')
    .transform(Number)
    .pipe(z.number().min(min).max(max))
    .meta({ title: 'whole number' })

export const limit = numberText(1, LIMITS.pageMax).describe(
  `Items of one page: ${LIMITS.pageDefault} when it is left out, ${LIMITS.pageMax} at most.`,
)
export const cursor = z.string().max(512).describe('`next` of the page before.')
export const flag = z.enum(['true', 'false'])
