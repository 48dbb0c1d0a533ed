#!/usr/bin/env node
// Plain JavaScript, and the cache before anything else: then the first module in TypeScript comes compiled from the cache as well.
import { existsSync } from 'node:fs'
import module from 'node:module'

const [major] = process.versions.node.split('.')
if (Number(major) < 24) {
  process.stderr.write(`orrery needs Node.js 24 or newer; this is ${process.versions.node} (${process.execPath}).\n`)
  process.exit(78)
}
module.enableCompileCache?.()
// A checkout runs as it is. A package has what was made from it: Node strips no types below node_modules.
const source = new URL('../src/app/main.ts', import.meta.url)
await import(existsSync(source) ? source.href : new URL('../dist/app/main.js', import.meta.url).href)
