import { createHash } from 'node:crypto'
import { rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { defineFunction } from '../../src/sdk/index.ts'
import { type Cell, describe, type Document, type Section } from './document.ts'
import { Executive } from './executive.ts'
import { Summary } from './summary.ts'

const Rendered = z.object({ path: z.string(), bytes: z.number(), sha256: z.string() })

const Input = z.object({ summary: Summary, executive: Executive, writer: z.string() })

export const markdown = defineFunction({
  input: Input,
  output: Rendered,
  run: ({ summary, executive, writer }) =>
    write(join(summary.facts.out, 'report.md'), toMarkdown(describe(summary, { ...executive, writer }))),
})

export const html = defineFunction({
  input: Input,
  output: Rendered,
  run: ({ summary, executive, writer }) =>
    write(join(summary.facts.out, 'report.html'), toHtml(describe(summary, { ...executive, writer }))),
})

/** Whole or not at all: a reader never meets half a report, and running the step twice leaves the same file. */
async function write(path: string, content: string): Promise<z.infer<typeof Rendered>> {
  await writeFile(`${path}.part`, content)
  await rename(`${path}.part`, path)
  return { path, bytes: Buffer.byteLength(content), sha256: createHash('sha256').update(content).digest('hex') }
}

/** Names may hold anything: what would break a line or hide is shown as an escape. */
const visible = (value: string): string =>
  value.replace(/[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu, (char) =>
    char === '\n' ? '\\n' : char === '\t' ? '\\t' : `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`,
  )

export function toMarkdown({ title, subtitle, executive, figures, remarks, sections }: Document): string {
  const parts = [
    `# ${mdText(title)}`,
    mdText(subtitle),
    '## Executive summary',
    `**${mdText(executive.headline)}**`,
    mdText(executive.text),
    ...(executive.concerns.length > 0 ? [executive.concerns.map((one) => `- ${mdText(one)}`).join('\n')] : []),
    `_${mdText(`Written by ${executive.writer}.`)}_`,
    figures.map(({ label, value }) => `- ${label}: **${value}**`).join('\n'),
  ]
  if (remarks.length > 0) parts.push('## Look at first', remarks.map((remark) => `- ${mdText(remark)}`).join('\n'))
  for (const section of sections) {
    parts.push(`## ${section.title}`)
    if (section.text !== '') parts.push(mdText(section.text))
    parts.push(mdTable(section))
  }
  return `${parts.join('\n\n')}\n`
}

function mdTable({ columns, rows }: Section): string {
  const right = columns.map((_, index) => rows.some((row) => row[index]?.kind === 'number'))
  const lines = [columns, right.map((isRight) => (isRight ? '---:' : '---')), ...rows.map((row) => row.map(mdCell))]
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n')
}

const mdCell = (cell: Cell): string => (cell.kind === 'code' ? mdCode(cell.text) : mdText(cell.text))

const mdText = (value: string): string => visible(value).replace(/[\\`*_[\]<>|&~#]/g, '\\$&')

function mdCode(value: string): string {
  const shown = visible(value).replaceAll('|', '\\|')
  const longest = Math.max(0, ...(shown.match(/`+/g) ?? []).map((ticks) => ticks.length))
  const fence = '`'.repeat(longest + 1)
  const pad = /^[` ]|[` ]$/.test(shown) || shown === '' ? ' ' : ''
  return `${fence}${pad}${shown}${pad}${fence}`
}

const ESCAPES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' }
const escape = (value: string): string => visible(value).replace(/[&<>"']/g, (char) => ESCAPES[char] ?? char)

/** One file without scripts, fonts or requests; it follows the reader's light or dark setting. */
export function toHtml({ title, subtitle, executive, figures, remarks, sections }: Document): string {
  const figure = ({ label, value }: Document['figures'][number]) =>
    `<div><dd>${escape(value)}</dd><dt>${escape(label)}</dt></div>`
  const look =
    remarks.length === 0
      ? ''
      : `<section class="remarks"><h2>Look at first</h2><ul>${remarks.map((r) => `<li>${escape(r)}</li>`).join('')}</ul></section>`
  const concerns = executive.concerns.map((one) => `<li>${escape(one)}</li>`).join('')
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escape(title)}: repository report</title>
<style>${STYLE}</style>
</head>
<body>
<header><h1>${escape(title)}</h1><p>${escape(subtitle)}</p></header>
<main>
<section class="executive"><h2>${escape(executive.headline)}</h2><p>${escape(executive.text)}</p>${concerns === '' ? '' : `<ul>${concerns}</ul>`}<p class="by">Written by ${escape(executive.writer)}.</p></section>
<dl>${figures.map(figure).join('')}</dl>
${look}
${sections.map(htmlSection).join('\n')}
</main>
</body>
</html>
`
}

function htmlSection({ title, text, columns, rows }: Section): string {
  const isNumber = columns.map((_, index) => rows.some((row) => row[index]?.kind === 'number'))
  const head = columns
    .map((column, i) => `<th scope="col"${isNumber[i] ? ' class="n"' : ''}>${escape(column)}</th>`)
    .join('')
  const body = rows.map((row) => `<tr>${row.map(htmlCell).join('')}</tr>`).join('\n')
  return `<section><h2>${escape(title)}</h2>${text === '' ? '' : `<p>${escape(text)}</p>`}
<div class="scroll"><table><thead><tr>${head}</tr></thead>
<tbody>${body}</tbody></table></div></section>`
}

function htmlCell(cell: Cell): string {
  if (cell.kind === 'text') return `<td>${escape(cell.text)}</td>`
  if (cell.kind === 'code') return `<td><code>${escape(cell.text)}</code></td>`
  if (cell.share === null) return `<td class="n">${escape(cell.text)}</td>`
  const width = (100 * cell.share).toFixed(1)
  return `<td class="n bar">${escape(cell.text)} <svg viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true"><rect width="${width}" height="8" rx="1"/></svg></td>`
}

const STYLE = `
:root { --paper: #fff; --ink: #1c2430; --quiet: #5d6877; --line: #e2e6ec; --bar: #3b6fd4; --card: #f6f8fb; --warm: #fff8e8; --warm-line: #e8c76a }
@media (prefers-color-scheme: dark) {
  :root { --paper: #12161c; --ink: #e4e9f0; --quiet: #97a3b3; --line: #2a323d; --bar: #6f9df2; --card: #1a2029; --warm: #262115; --warm-line: #7d6a34 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif }
h1 { margin: 0; font-size: 2rem; overflow-wrap: anywhere }
h2 { margin: 0 0 .25rem; font-size: 1.2rem }
header p, section > p { margin: 0 0 .75rem; color: var(--quiet) }
section { margin-top: 2.25rem }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(11rem, 1fr)); gap: .75rem; margin: 1.5rem 0 0 }
dl > div { display: flex; flex-direction: column; padding: .75rem 1rem; border: 1px solid var(--line); border-radius: .5rem; background: var(--card) }
dd { margin: 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums }
dt { color: var(--quiet); font-size: .875rem }
.remarks { padding: 1rem 1.25rem; border: 1px solid var(--warm-line); border-radius: .5rem; background: var(--warm) }
.executive > p { color: var(--ink) }
.executive .by { color: var(--quiet); font-size: .875rem }
.remarks ul { margin: .5rem 0 0; padding-left: 1.25rem }
.scroll { overflow-x: auto }
table { width: 100%; border-collapse: collapse; font-size: .9375rem }
th, td { padding: .4rem .75rem .4rem 0; border-bottom: 1px solid var(--line); text-align: left; vertical-align: top }
th { color: var(--quiet); font-weight: 500; white-space: nowrap }
.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap }
.bar { width: 15rem }
.bar svg { width: 8rem; height: .5rem; margin-left: .5rem; background: var(--line); border-radius: .25rem; vertical-align: middle }
.bar rect { fill: var(--bar) }
code { font: .875rem ui-monospace, monospace; overflow-wrap: anywhere }
`
