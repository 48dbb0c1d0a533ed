#!/usr/bin/env node
// Plain JavaScript, and the cache before anything else: then the first module in TypeScript comes compiled from the cache as well.
import { enableCompileCache } from 'node:module'

enableCompileCache()
await import('../src/app/main.ts')
