import { z } from 'zod'
import type { JsonObject } from '../../base/json.ts'
import { isCalendarWindow, isTimeZone, WINDOWS } from '../agents/windows.ts'
import { LIMITS } from '../limits.ts'
import { CURRENCY } from '../currency.ts'
import { isObject, type Placed, placedProblem } from '../placed-problem.ts'
import { dnsName } from './envelope.ts'
import { defineKind, READY, type Usage } from './kind.ts'

const names = z.array(dnsName).min(1).max(LIMITS.agentNamesMax).optional()

const selector = z.strictObject({
  workflows: names.describe('Runs of these workflows, and all runs below them.'),
  agents: names.describe('Calls of these agents.'),
  endpoints: names.describe('Calls of these model endpoints.'),
  labels: z
    .record(z.string().min(1).max(253), z.string().max(LIMITS.labelValueChars))
    .refine((all) => Object.keys(all).length > 0, { error: 'names no label' })
    .refine((all) => Object.keys(all).length <= LIMITS.labelsMax, { error: `has more than ${LIMITS.labelsMax} labels` })
    .optional()
    .describe('Runs with all of these labels, and all runs below them.'),
})

const limits = z.strictObject({
  tokens: z.int().min(0).optional().describe('Tokens of requests and answers together; 0 lets none pass.'),
  money: z
    .number()
    .min(0)
    .max(LIMITS.budgetMoneyMax)
    .optional()
    .describe('In `currency`, by the price tables that the endpoints name; 0 lets pass what costs nothing.'),
  currency: z
    .string()
    .regex(CURRENCY, { error: 'must be three capital letters, such as USD' })
    .optional()
    .describe('Of `money`.'),
})

export const budgetSpecSchema = z.strictObject({
  selector: selector
    .default({})
    .describe('Which calls of models count: those that meet all of it. Left out, all of the namespace.'),
  window: z
    .enum(WINDOWS)
    .describe(
      'For how long what was spent counts: `run` for each run with all runs below it, `24h` for the last 24 hours at any moment, else a day, a week from Monday or a month of the calendar.',
    ),
  timeZone: z
    .string()
    .refine(isTimeZone, { error: 'is no time zone that is known; write for example Europe/Berlin' })
    .optional()
    .describe('Of the calendar, for `day`, `week` and `month`; left out, `UTC`.'),
  limits: limits.describe('What may be spent in one window: tokens, money, or both.'),
  alerts: z
    .array(z.number().gt(0, { error: 'must be a share above 0, such as 0.8' }).max(1))
    .max(10)
    .default([0.8])
    .describe('Shares of a limit that are told of when they are reached, once in each window.'),
  action: z
    .enum(['wait', 'fail'])
    .default('wait')
    .describe(
      'What becomes of a step whose next call does not fit: it waits and goes on by itself, or it fails with `budget.exceeded`.',
    ),
  unknownPrice: z
    .enum(['refuse', 'allow'])
    .optional()
    .describe(
      'For `money`, what becomes of calls whose price in the currency is not known: left out, they are refused with `budget.price_unknown`; `allow` lets them pass as if they cost nothing.',
    ),
})
export type BudgetSpec = z.infer<typeof budgetSpecSchema>
export type BudgetSelector = BudgetSpec['selector']

/** Of a spec that was checked when it was stored. */
export const readBudget = (spec: JsonObject): BudgetSpec => budgetSpecSchema.parse(spec)

const problem = (message: string, ...path: (string | number)[]): Placed =>
  placedProblem('manifest.invalid', message, ['spec', ...path])
const keyProblem = (message: string, ...path: string[]): Placed => ({ ...problem(message, ...path), at: 'key' })

/** What the schema cannot say: which fields go together. */
function crossCheck(spec: JsonObject): Placed[] {
  const found: Placed[] = []
  const limits = isObject(spec['limits']) ? spec['limits'] : {}
  if (isObject(spec['limits']) && limits['tokens'] === undefined && limits['money'] === undefined)
    found.push(problem('limits nothing: name tokens, money or both', 'limits'))
  if (limits['money'] !== undefined && limits['currency'] === undefined)
    found.push(problem('is required beside money', 'limits', 'currency'))
  if (limits['money'] === undefined) {
    if (limits['currency'] !== undefined) found.push(keyProblem('is for money', 'limits', 'currency'))
    if (spec['unknownPrice'] !== undefined) found.push(keyProblem('is for limits.money', 'unknownPrice'))
  }
  const window = WINDOWS.find((known) => known === spec['window'])
  if (spec['timeZone'] !== undefined && window !== undefined && !isCalendarWindow(window))
    found.push(keyProblem(`is for the windows day, week and month; this one is ${window}`, 'timeZone'))
  const selector = isObject(spec['selector']) ? spec['selector'] : {}
  for (const [path, list] of [
    [['alerts'], spec['alerts']],
    ...['workflows', 'agents', 'endpoints'].map((key) => [['selector', key], selector[key]] as const),
  ] as const)
    if (Array.isArray(list))
      for (const [i, one] of list.entries())
        if (list.indexOf(one) < i) found.push(problem('is there twice', ...path, i))
  return found
}

const textOf = (value: unknown): string => (typeof value === 'string' ? value : '')

/** Tokens, money, or both, as a column shows them. */
function amountText({ limits }: BudgetSpec, amount: { tokens: number; money: number | null }): string {
  const parts = [
    ...(limits.tokens === undefined ? [] : [`${amount.tokens} tokens`]),
    ...(limits.money === undefined ? [] : [`${Number((amount.money ?? 0).toFixed(4))} ${limits.currency ?? ''}`]),
  ]
  return parts.join(', ')
}

const limitText = (spec: BudgetSpec): string =>
  amountText(spec, { tokens: spec.limits.tokens ?? 0, money: spec.limits.money ?? null })

/** When what was spent counts no more. */
const resetText = ({ window }: BudgetSpec, usage: Usage | undefined): string =>
  window === 'run' ? 'with each run' : window === '24h' ? '24h after each call' : (usage?.until ?? '-')

const shown = (spec: JsonObject, text: (budget: BudgetSpec) => string): string => {
  const read = budgetSpecSchema.safeParse(spec)
  // One of a newer server is shown as far as it is understood.
  return read.success ? text(read.data) : '-'
}

export const budgetKind = defineKind({
  kind: 'Budget',
  plural: 'budgets',
  shortNames: ['bud'],
  summary: 'What calls of models may spend, in tokens and in money.',
  spec: budgetSpecSchema,
  crossCheck,
  columns: [
    { title: 'WINDOW', text: ({ spec }) => textOf(spec['window']) },
    {
      title: 'SPENT',
      align: 'right',
      text: ({ spec, status: { usage } }) => (usage ? shown(spec, (budget) => amountText(budget, usage)) : '-'),
    },
    { title: 'LIMIT', align: 'right', text: ({ spec }) => shown(spec, limitText) },
    {
      title: 'USED',
      align: 'right',
      text: ({ status: { usage } }) => (usage ? `${Math.floor(usage.share * 100)}%` : '-'),
    },
    { title: 'RESETS', text: ({ spec, status: { usage } }) => shown(spec, (budget) => resetText(budget, usage)) },
    { title: 'WAITING', align: 'right', wide: true, text: ({ status: { usage } }) => String(usage?.waiting ?? '-') },
    { title: 'PHASE', wide: true, text: ({ status: { phase } }) => phase },
  ],
  statusOf: () => ({ phase: 'ready', conditions: [READY] }),
})

/** Money as it is counted: billionths of the currency, which is what prices are exact to. */
export const nanosOf = (money: number): number => Math.round(money * 1e9)
