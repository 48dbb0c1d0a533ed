import { nearest } from '../base/nearest.ts'
import { compileExpression, quote, ROOTS } from './expression.ts'
import type { Problem } from './failure.ts'
import { formatPath, type Path } from './place.ts'
import { bareExpression, parseTemplate } from './template.ts'

/** What the expressions of one step read, and what is wrong with them. */
export interface StepExpressions {
  reads: { name: string; path: Path }[]
  problems: Problem[]
}

/** Fields whose strings are templates that are evaluated for each activation, so `item` and `index` may be read. */
const PER_ITEM = ['with', 'command', 'env', 'stdin', 'workdir'] as const

/** Compiles every expression of a step as it was written; the step may be wrong in other ways. */
export function compileStepExpressions(step: Record<string, unknown>, path: Path): StepExpressions {
  const reads: StepExpressions['reads'] = []
  const problems: Problem[] = []
  const hasItems = step['forEach'] !== undefined

  function refuse(message: string, at: Path, near?: string): void {
    problems.push({ code: 'expression.invalid', message, path: formatPath(at), ...(near ? { nearest: near } : {}) })
  }

  function compile(source: string, at: Path, options: { items: boolean; gives?: RegExp; says?: string }): void {
    const compiled = compileExpression(source)
    if (!compiled.ok) return refuse(compiled.message, at, compiled.nearest)
    const { expression } = compiled
    for (const { root } of expression.reads) {
      if ((root !== 'item' && root !== 'index') || options.items) continue
      const near = nearest(
        root,
        ROOTS.filter((other) => other !== 'item' && other !== 'index'),
      )
      const why = hasItems ? `only ${PER_ITEM.join(', ')} can read it` : 'the step has no forEach'
      refuse(`${root} has no value here: ${why}`, at, near ?? undefined)
    }
    if (options.gives && !options.gives.test(expression.type))
      refuse(`${quote(source)} gives ${expression.type}, not ${options.says}`, at)
    for (const name of expression.steps) reads.push({ name, path: at })
  }

  function compileText(text: string, at: Path, options: { items: boolean }): void {
    if (!text.includes('${{')) return
    const { parts, unclosedAt } = parseTemplate(text)
    if (unclosedAt !== null)
      refuse(`\${{ is not closed with }}, in ${JSON.stringify(text.slice(unclosedAt, unclosedAt + 60))}`, at)
    for (const part of parts) if (part.kind === 'expression') compile(part.source, at, options)
  }

  // The depth of what is walked is bounded before.
  function walk(value: unknown, at: Path, options: { items: boolean }): void {
    if (typeof value === 'string') compileText(value, at, options)
    else if (Array.isArray(value)) for (const [i, entry] of value.entries()) walk(entry, [...at, i], options)
    else if (typeof value === 'object' && value !== null)
      for (const [key, entry] of Object.entries(value)) walk(entry, [...at, key], options)
  }

  for (const field of PER_ITEM) walk(step[field], [...path, field], { items: hasItems })

  const condition = step['if']
  if (typeof condition === 'string') {
    const source = bareExpression(condition)
    if (source === null)
      refuse('if is one expression that gives true or false, not a text with expressions in it', [...path, 'if'])
    else compile(source, [...path, 'if'], { items: false, gives: /^(bool|dyn)$/, says: 'true or false' })
  }

  const list = step['forEach']
  if (typeof list === 'string') {
    const source = list.includes('${{') ? bareExpression(list) : null
    if (source === null) refuse('forEach is a list, or one ${{ }} that gives a list', [...path, 'forEach'])
    else compile(source, [...path, 'forEach'], { items: false, gives: /^(list\b.*|dyn|optional.*)$/, says: 'a list' })
  } else walk(list, [...path, 'forEach'], { items: false })

  return { reads, problems }
}
